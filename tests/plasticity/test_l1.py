"""L1 regularisation: after each step of the optimizer, and as a term of the loss."""

import copy

import pytest
import torch
from plastic_models import LAYERS, OPTIMIZERS, attach, bound, made, step
from torch import nn

import bioconvert as bc
from bioconvert.core.errors import OptionError, RuleError
from bioconvert.plasticity import l1_penalty


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", LAYERS)
def test_shrinks_what_the_optimizer_gives(name, optimizer):
    """Each weight is what the optimizer made of it, less rate times strength, or zero."""
    model, x = made(name)
    twin = copy.deepcopy(model)
    model, stepper, _ = bound(model, OPTIMIZERS[optimizer], attach({"l1": {"strength": 0.5}}))
    alone = OPTIMIZERS[optimizer](twin.parameters())
    step(model, stepper, x)
    step(twin, alone, x)
    threshold = 0.5 * stepper.param_groups[0]["lr"]
    expected = twin[0].weight.sign() * (twin[0].weight.abs() - threshold).clamp(min=0)
    assert torch.allclose(model[0].weight, expected, atol=1e-6)
    assert torch.equal(model[0].bias, twin[0].bias)


def test_gives_exact_zeros():
    """Weights that the task has no use for become zero and stay so."""
    torch.manual_seed(0)
    x = torch.randn(256, 20)
    y = x[:, :2].sum(1, keepdim=True)
    model, stepper, _ = bound(
        nn.Linear(20, 1), lambda p: torch.optim.SGD(p, lr=0.05), attach({"l1": {"strength": 0.2}})
    )
    for _ in range(300):
        stepper.zero_grad()
        (model(x) - y).square().mean().backward()
        stepper.step()
    assert (model.weight[0, 2:] == 0).all()
    assert (model.weight[0, :2] > 0.5).all()


def test_warms_up():
    """Over `warmup` steps it comes to its full strength."""
    model, stepper, _ = bound(
        nn.Linear(1, 1, bias=False),
        lambda p: torch.optim.SGD(p, lr=1.0),
        attach({"l1": {"strength": 0.1, "warmup": 1}}, type="linear"),
    )
    with torch.no_grad():
        model.weight.fill_(1.0)
    found = []
    for _ in range(3):
        model.weight.grad = torch.zeros(1, 1)
        stepper.step()
        found.append(float(model.weight.detach()))
    assert found == pytest.approx([0.95, 0.85, 0.75])


def test_a_strength_below_zero():
    """A negative strength is an error of the rule."""
    with pytest.raises(RuleError, match="strength"):
        bc.plan(nn.Linear(2, 2), attach({"l1": {"strength": -1.0}}))


class TestPenalty:
    def test_counts_weights_alone(self):
        """It is the sum over weights, each once, without biases, scales and what mechanisms keep."""
        layer = nn.Linear(3, 3)
        model = nn.Sequential(layer, nn.LayerNorm(3), layer, nn.Conv1d(2, 3, 2))
        bc.convert(model, attach("fuzzy_lr"))
        expected = layer.weight.abs().sum() + model[3].weight.abs().sum()
        assert torch.allclose(l1_penalty(model), expected)

    def test_gradients_flow_to_weights(self):
        """Its gradient is the sign of each weight, and nothing else has one."""
        model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
        l1_penalty(model).backward()
        assert torch.equal(model[0].weight.grad, model[0].weight.sign())
        assert all(p.grad is None for p in (model[0].bias, *model[1].parameters()))

    def test_without_weights(self):
        """A model without weights is an error."""
        with pytest.raises(OptionError, match="no weights"):
            l1_penalty(nn.LayerNorm(3))

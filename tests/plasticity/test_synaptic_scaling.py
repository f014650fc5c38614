"""Synaptic scaling: units that keep their activity, or their plasticity."""

import copy
import pickle

import pytest
import torch
from plastic_models import LAYERS, OPTIMIZERS, attach, bound, made, step
from torch import nn

import bioconvert as bc
from bioconvert.plasticity.synaptic_scaling import agreed


def still(parameters):
    return torch.optim.SGD(parameters, lr=0.0)


def activity(model, x):
    """Give the mean of the positive part of each unit's output."""
    with torch.no_grad():
        y = model(x)
    axis = -1 if y.dim() == 2 else 1
    return y.clamp(min=0).movedim(axis, 0).flatten(1).mean(1)


GROWING = [name for name in LAYERS if not name.startswith("Yat")]
"""The layers whose units are the more active, the larger their weights are."""


class TestEveryLayer:
    @pytest.mark.parametrize("name", GROWING)
    def test_activity_comes_back(self, name):
        """After inputs of twice the size have come, each unit becomes about as active as it was."""
        model, x = made(name)
        with torch.no_grad():
            model[0].bias.zero_()
        larger = 2 * x
        options = {"window": 3, "beta": 0.1, "memory": 2}
        model, stepper, _ = bound(model, still, attach({"synaptic_scaling": options}))
        aim = activity(model, x)
        for _ in range(3):
            step(model, stepper, x)
        assert torch.allclose(model[0].synaptic_scaling_target, aim, rtol=1e-4, atol=1e-7)
        away = (activity(model, larger) - aim).abs().sum()
        for _ in range(150):
            step(model, stepper, larger)
        assert (activity(model, larger) - aim).abs().sum() < 0.1 * away

    @pytest.mark.parametrize("name", LAYERS)
    def test_units_move_by_the_same(self, name):
        """By `scope: gradient` the gradients that units move by add up to the same, the sum unchanged."""
        model, x = made(name)
        plain = copy.deepcopy(model)
        model, stepper, _ = bound(
            model, OPTIMIZERS["SGD"], attach({"synaptic_scaling": {"scope": "gradient"}})
        )
        before = model[0].weight.detach().clone()
        step(model, stepper, x)
        moved = by_unit(model[0], (model[0].weight.detach() - before).abs())
        step(plain, OPTIMIZERS["SGD"](plain.parameters()), x)
        alone = by_unit(model[0], (plain[0].weight.detach() - before).abs())
        assert torch.allclose(moved, alone.mean().expand_as(moved), rtol=1e-3)
        assert alone.std() > 1e-2 * alone.mean()


def by_unit(layer, values):
    """Add up values over each output unit's synapses."""
    if isinstance(layer, nn.modules.conv._ConvTransposeNd):
        return torch.cat([part.transpose(0, 1).flatten(1).sum(1) for part in values.chunk(layer.groups)])
    return values.flatten(1).sum(1)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_gradient_scope_multiplies_the_update(optimizer):
    """Under any optimizer each unit's update is what it would have been, times the unit's rate."""
    model, x = made("Linear")
    twin = copy.deepcopy(model)
    before = model[0].weight.detach().clone()
    model, stepper, _ = bound(
        model, OPTIMIZERS[optimizer], attach({"synaptic_scaling": {"scope": "gradient"}})
    )
    step(model, stepper, x)
    step(twin, OPTIMIZERS[optimizer](twin.parameters()), x)
    sizes = twin[0].weight.grad.abs().sum(1)
    expected = (sizes.mean() / sizes)[:, None] * (twin[0].weight.detach() - before)
    assert torch.allclose(model[0].weight.detach() - before, expected, rtol=1e-4, atol=1e-6)


def test_a_unit_without_gradient_stays():
    """By `scope: gradient` a unit whose gradient is zero isn't moved, and nothing is NaN."""
    (
        model,
        _,
    ) = made("Linear")
    model, stepper, _ = bound(model, OPTIMIZERS["SGD"], attach({"synaptic_scaling": {"scope": "gradient"}}))
    before = model[0].weight.detach().clone()
    model[0].weight.grad = torch.ones(4, 5)
    model[0].weight.grad[1] = 0
    stepper.step()
    assert torch.equal(model[0].weight[1], before[1])
    assert torch.allclose(before - model[0].weight, torch.tensor([0.225, 0.0, 0.225, 0.225])[:, None])


class TestTarget:
    def test_given(self):
        """A given rate is what every unit comes to, from the first step on."""
        model, x = made("Linear")
        options = {"target_rate": 0.5, "beta": 0.2, "memory": 1}
        model, stepper, _ = bound(model, still, attach({"synaptic_scaling": options}))
        for _ in range(200):
            step(model, stepper, x)
        assert torch.allclose(activity(model, x), torch.full((4,), 0.5), rtol=1e-2)

    def test_nothing_changes_while_it_is_measured(self):
        """Within the window the weights stay as they are."""
        model, x = made("Conv2d")
        before = model[0].weight.detach().clone()
        model, stepper, _ = bound(model, still, attach({"synaptic_scaling": {"window": 4}}))
        for _ in range(4):
            step(model, stepper, x * torch.rand(1))
        assert torch.equal(model[0].weight, before)

    def test_a_silent_unit(self):
        """A unit that never was active is let be; one that falls silent grows by a bounded factor."""
        model, x = made("Linear")
        with torch.no_grad():
            model[0].bias.copy_(torch.tensor([-100.0, 0.0, 0.0, 0.0]))
        before = model[0].weight.detach().clone()
        model, stepper, _ = bound(model, still, attach({"synaptic_scaling": {"window": 1, "beta": 0.1}}))
        step(model, stepper, x)
        with torch.no_grad():
            model[0].bias.fill_(-100.0)
        for _ in range(20):
            step(model, stepper, x)
        ratio = (model[0].weight / before).detach()
        assert torch.equal(ratio[0], torch.ones(5))
        assert (ratio[1:] > 1).all()
        assert (ratio[1:] <= 1.1**21 * 1.1).all()

    def test_only_training_counts(self):
        """Calls in evaluation, and without gradients, aren't seen."""
        model, x = made("Linear")
        model, _, _ = bound(model, still, attach("synaptic_scaling"))
        model.eval()(x)
        with torch.no_grad():
            model.train()(x)
        assert int(model[0].synaptic_scaling_calls) == 0
        model(x)
        assert int(model[0].synaptic_scaling_calls) == 1


class TestHooks:
    def test_outputs_keep_every_bit(self):
        """Attaching and binding change neither outputs nor gradients."""
        model, x = made("Conv2d")
        twin = copy.deepcopy(model)
        model, _, _ = bound(model, still, attach("synaptic_scaling"))
        for each in (model, twin):
            each(x).square().sum().backward()
        assert torch.equal(model(x), twin(x))
        assert torch.equal(model[0].weight.grad, twin[0].weight.grad)

    def test_a_copy_does_not_watch(self):
        """A deep copy and a pickle see nothing until they are bound, and then themselves."""
        model, x = made("Linear")
        model, _, _ = bound(model, still, attach("synaptic_scaling"))
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            other(x)
            assert int(other[0].synaptic_scaling_calls) == 0
            bc.Plasticity(other).bind(still(other.parameters()))
            other(x)
            assert int(other[0].synaptic_scaling_calls) == 1
        assert int(model[0].synaptic_scaling_calls) == 0

    def test_unbind_ends_it(self):
        """After unbind nothing is seen any more."""
        model, x = made("Linear")
        model, _, plasticity = bound(model, still, attach("synaptic_scaling"))
        plasticity.unbind()
        model(x)
        assert int(model[0].synaptic_scaling_calls) == 0

    def test_compiled_in_one_graph(self):
        """A bound layer compiles without a break and is watched all the same."""
        model, x = made("Linear")
        model, _, _ = bound(model, still, attach("synaptic_scaling"))
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        assert torch.equal(compiled(x), model(x))
        assert int(model[0].synaptic_scaling_calls) == 2


def test_processes_agree():
    """Where several processes train, the mean of what they saw counts."""
    distributed = torch.distributed
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        model, x = made("Linear")
        model, stepper, _ = bound(model, still, attach({"synaptic_scaling": {"target_rate": 1.0}}))
        step(model, stepper, x)
        assert torch.equal(agreed(x), x)
    finally:
        distributed.destroy_process_group()
    assert not torch.equal(model[0].weight, made("Linear")[0][0].weight)


@pytest.mark.parametrize("options", [{"window": 2, "beta": 0.1}, {"scope": "gradient", "warmup": 5}])
def test_goes_on_where_it_was(options):
    """Model, optimizer and plasticity restored from their states go on bit for bit."""
    rules = attach({"synaptic_scaling": options})
    ours, x = bound(made("Conv2d")[0], OPTIMIZERS["Adam"], rules), made("Conv2d")[1]
    for _ in range(4):
        step(ours[0], ours[1], x)
    other = bound(made("Conv2d", seed=7)[0], OPTIMIZERS["Adam"], rules)
    for each, source in zip(other, ours, strict=True):
        each.load_state_dict(copy.deepcopy(source.state_dict()))
    for _ in range(3):
        step(ours[0], ours[1], x)
        step(other[0], other[1], x)
    assert torch.equal(ours[0][0].weight, other[0][0].weight)


@pytest.mark.parametrize(
    ("make", "match", "reason"),
    [
        pytest.param(lambda: nn.GRU(4, 4), {"type": "recurrent"}, "of a GRU", id="recurrent"),
        pytest.param(
            lambda: nn.Linear(4, 4), {"type": "linear", "parameter": "0.bias"}, "not for the bias", id="bias"
        ),
    ],
)
def test_what_has_no_activity(make, match, reason):
    """A parameter whose units' activity can't be seen is left alone, with the reason."""
    plan = bc.plan(nn.Sequential(make()), attach("synaptic_scaling", **match))
    assert not plan.applied
    assert reason in plan.skipped[0].reason

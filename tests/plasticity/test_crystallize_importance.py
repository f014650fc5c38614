"""The laws of importance: what is measured, the pull, and the end of a task."""

import pytest
import torch
from torch import nn

import bioconvert as bc
from bioconvert.core.errors import OptionError

LAWS = ("si", "ewc", "mas")
X = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))


def attached(**options):
    rule = {"match": {"type": "linear"}, "attach": [{"crystallize": options}]}
    torch.manual_seed(0)
    return bc.convert(nn.Linear(3, 1, bias=False), {"version": 1, "rules": [rule]})


def bound(rate=0.1, **options):
    net = attached(**options)
    optimizer = torch.optim.SGD(net.parameters(), lr=rate)
    plasticity = bc.Plasticity(net).bind(optimizer)

    def step(*gradient):
        net.weight.grad = torch.tensor([gradient])
        optimizer.step()

    return net, plasticity, step


class TestMeasures:
    def test_si_is_the_path_integral(self):
        """Importance is the fall of the loss along the way over the squared distance, with a mean of 1."""
        net, plasticity, step = bound(law="si")
        start = net.weight.detach().clone()
        fall = torch.zeros(1, 3)
        for gradient in ([1.0, 0.2, -0.5], [0.5, -0.1, -0.4]):
            fall += 0.1 * torch.tensor([gradient]).square()
            step(*gradient)
        squared = (net.weight.detach() - start).square()
        expected = fall / (squared + 10 * squared.mean())
        plasticity.consolidate()
        assert torch.allclose(net.crystallize_importance, expected / expected.mean(), rtol=1e-4)

    def test_si_counts_from_the_first_step(self):
        """Weights that were loaded after attaching are where distances begin."""
        net, plasticity, step = bound(law="si")
        net.load_state_dict({**net.state_dict(), "weight": torch.full((1, 3), 7.0)})
        step(1.0, 1.0, 1.0)
        plasticity.consolidate()
        assert torch.allclose(net.crystallize_importance, torch.ones(1, 3), rtol=1e-4)

    def test_ewc_is_a_mean_of_squared_gradients(self):
        """Importance is proportional to the running mean of squared gradients."""
        net, plasticity, step = bound(law="ewc")
        step(1.0, 2.0, 0.0)
        step(1.0, 0.0, 3.0)
        plasticity.consolidate()
        expected = torch.tensor([[0.99 + 1, 0.99 * 4, 9.0]])
        assert torch.allclose(net.crystallize_importance, expected / expected.mean())

    def test_mas_is_the_sensitivity_of_the_outputs(self):
        """Importance is the mean size of the squared norm's gradient, sample by sample."""
        net, plasticity, _ = bound(law="mas")
        plasticity.consolidate(X.split(1))
        expected = (2 * net(X).detach() * X).abs().mean(0)
        assert torch.allclose(net.crystallize_importance, (expected / expected.mean())[None])

    @pytest.mark.parametrize("batch", [X, (X,), {"input": X}])
    def test_mas_takes_batches_as_the_model_does(self, batch):
        """Batches are tensors, tuples or dicts; flags and gradients stay as they are."""
        net, plasticity, _ = bound(law="mas")
        plasticity.consolidate([batch])
        assert float(net.crystallize_importance.mean()) == pytest.approx(1)
        assert net.training
        assert net.weight.grad is None

    @pytest.mark.parametrize("law", LAWS)
    def test_tasks_add_up(self, law):
        """Each consolidation adds an importance with a mean of 1, and pulls to the weights of its time."""
        net, plasticity, step = bound(law=law)
        for task in (1, 2):
            step(1.0, 2.0, -1.0)
            plasticity.consolidate([X])
            assert float(net.crystallize_importance.mean()) == pytest.approx(task)
            assert torch.equal(net.crystallize_anchor, net.weight.detach())


@pytest.mark.parametrize("law", LAWS)
class TestPull:
    def test_is_the_proximal_step(self, law):
        """After the optimizer's step a weight is (θ + aθ*) / (1 + a) with a = 2 · lr · strength · Ω."""
        net, plasticity, step = bound(law=law, strength=0.7)
        step(1.0, 2.0, -1.0)
        plasticity.consolidate([X])
        anchor, a = net.weight.detach().clone(), 2 * 0.1 * 0.7 * net.crystallize_importance.clone()
        step(0.3, 0.3, 0.3)
        free = anchor - 0.1 * 0.3
        assert torch.allclose(net.weight.detach(), (free + a * anchor) / (1 + a), atol=1e-6)

    def test_is_stable_where_a_penalty_is_not(self, law):
        """At a strength at which the penalty's gradient ends in NaN, the weights stay where they were."""
        net, plasticity, step = bound(law=law, strength=1e6)
        step(1.0, 2.0, -1.0)
        plasticity.consolidate([X])
        anchor, importance = net.weight.detach().clone(), net.crystallize_importance.clone()
        explicit = anchor.clone()
        for _ in range(40):
            step(1.0, 1.0, 1.0)
            explicit = explicit - 0.1 * (1 + 2e6 * importance * (explicit - anchor))
        assert explicit.isnan().all()
        assert torch.allclose(net.weight.detach(), anchor, atol=1e-4)

    def test_is_undone_by_recovery(self, law):
        """Importance fades at each step, until the weights move freely again."""
        net, plasticity, step = bound(law=law, strength=1e3, recovery=0.5)
        step(1.0, 2.0, -1.0)
        plasticity.consolidate([X])
        moved = []
        for _ in range(40):
            before = net.weight.detach().clone()
            step(1.0, 1.0, 1.0)
            moved.append(float((before - net.weight.detach()).min()))
        assert moved[0] < 0.01
        assert moved[-1] == pytest.approx(0.1, rel=1e-3)

    def test_honours_the_schedule(self, law):
        """It pulls at the steps at which it acts, and during the warm-up with a part of its strength."""
        net, plasticity, step = bound(law=law, strength=1e9, every=2)
        step(1.0, 1.0, 1.0)
        step(1.0, 2.0, -1.0)
        plasticity.consolidate([X])
        anchor = net.weight.detach().clone()
        step(1.0, 1.0, 1.0)
        assert torch.allclose(net.weight.detach(), anchor - 0.1)
        step(1.0, 1.0, 1.0)
        assert torch.allclose(net.weight.detach(), anchor, atol=1e-4)


@pytest.mark.parametrize("law", ["si", "ewc"])
def test_consolidates_by_itself(law):
    """Every `consolidate_every` steps at which it acts, what was learned is kept."""
    net, _, step = bound(law=law, consolidate_every=2, every=2, strength=0.0)
    means = []
    for _ in range(8):
        step(1.0, 2.0, -1.0)
        means.append(round(float(net.crystallize_importance.mean()), 4))
    assert means == [0, 0, 0, 1, 1, 1, 1, 2]


class Packed(nn.Linear):
    """Gives no tensor."""

    def forward(self, x):
        return "nothing"


class Exploding(nn.Linear):
    """Gives what is too large."""

    def forward(self, x):
        return super().forward(x) * 1e30


def stepped(law, rate=0.1):
    net, plasticity, step = bound(rate, law=law)
    step(1.0, 1.0, 1.0)
    return net, plasticity


def refusing(cls):
    net, plasticity = stepped("mas")
    net.__class__ = cls
    return plasticity


def lost():
    net, plasticity = stepped("ewc")
    with torch.no_grad():
        net.weight[0, 0] = float("nan")
    return plasticity


WRONG = [
    pytest.param(lambda: stepped("reference")[1], [X], "no weight crystallizes by importance", id="no law"),
    pytest.param(lambda: stepped("mas")[1], None, "on data", id="no data"),
    pytest.param(lambda: stepped("mas")[1], [], "no batches", id="no batches"),
    pytest.param(lambda: bound(law="si")[1], None, "nothing was learned", id="no step"),
    pytest.param(lambda: refusing(Packed), [X], "needs outputs", id="no tensor"),
    pytest.param(lambda: refusing(Exploding), [X], "importance of 'weight' on data isn't finite", id="inf"),
    pytest.param(lost, None, "'weight' isn't finite", id="NaN weight"),
]


@pytest.mark.parametrize(("make", "data", "reason"), WRONG)
def test_what_can_not_be_consolidated(make, data, reason):
    """It is an error that says what is missing, and nothing has changed."""
    plasticity = make()
    before = {name: value.clone() for name, value in plasticity.model.named_buffers()}
    with pytest.raises(OptionError, match=reason):
        plasticity.consolidate(data)
    assert all(torch.equal(before[name], value) for name, value in plasticity.model.named_buffers())
    assert plasticity.model.training

"""How often units fire, and rates that go by it."""

import copy
import pickle

import pytest
import torch
from fuzzy_rates import bound, factors, fuzzy
from torch import nn

import bioconvert as bc
from bioconvert.layers import YatLinear
from bioconvert.plasticity.firing import by_unit, unit_axis

UNITS = [
    pytest.param(lambda: nn.Linear(4, 6), (5, 4), id="Linear"),
    pytest.param(lambda: nn.Linear(4, 6), (2, 3, 4), id="Linear on sequences"),
    pytest.param(lambda: nn.Conv1d(4, 6, 3, groups=2), (2, 4, 8), id="Conv1d, grouped"),
    pytest.param(lambda: nn.Conv2d(4, 6, 3), (2, 4, 8, 8), id="Conv2d"),
    pytest.param(
        lambda: nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last), (2, 4, 8, 8), id="channels_last"
    ),
    pytest.param(lambda: nn.Conv2d(4, 6, 3), (4, 8, 8), id="Conv2d on one picture"),
    pytest.param(lambda: nn.ConvTranspose2d(4, 6, 3), (2, 4, 8, 8), id="ConvTranspose2d"),
    pytest.param(lambda: nn.Embedding(4, 6), None, id="Embedding"),
    pytest.param(lambda: YatLinear(4, 6), (5, 4), id="YatLinear"),
]


@pytest.mark.parametrize(("make", "shape"), UNITS)
class TestActivity:
    def made(self, make, **options):
        torch.manual_seed(0)
        net = make()
        return fuzzy(
            net,
            match={"type": type(net).__name__},
            distribution="activity",
            **options,
        )

    def seen(self, net, shape):
        x = torch.randint(4, (5,)) if shape is None else torch.randn(shape)
        return net(x)

    def test_keeps_how_often_each_unit_fires(self, make, shape):
        """The average firing of a unit moves towards the share of its outputs above the threshold."""
        net = self.made(make, memory=0.75, threshold=0.05)
        bound(net)
        output = self.seen(net, shape)
        axis = -1 if "Conv" not in type(net).__name__ else 1 - net.weight.dim()
        share = (output > 0.05).float().movedim(axis, 0).flatten(1).mean(1)
        assert net.fuzzy_lr_firing.shape == (6,)
        assert torch.allclose(net.fuzzy_lr_firing, 0.75 * 0.5 + 0.25 * share)

    def test_spread_goes_by_the_unit(self, make, shape):
        """A weight's distance from 1 is multiplied by 3/2 minus the firing of the unit that it leads to."""
        net = self.made(make)
        optimizer, _ = bound(net)
        net.fuzzy_lr_firing.copy_(torch.linspace(0, 1, 6))
        dims = [1] * net.weight.dim()
        dims[unit_axis(net, "weight")] = 6
        expected = 1 + (net.fuzzy_lr_rate - 1) * (1.5 - torch.linspace(0, 1, 6)).view(dims)
        assert torch.allclose(factors(net, optimizer).float(), expected, atol=1e-6)

    def test_eval_and_inference_leave_no_trace(self, make, shape):
        """In eval mode and without gradients nothing is noted; outputs are those of the plain layer."""
        net, twin = self.made(make), make()
        twin.load_state_dict(net.state_dict(), strict=False)
        _, plasticity = bound(net)
        before = net.fuzzy_lr_firing.clone()
        torch.manual_seed(1)
        found = self.seen(net.eval(), shape)
        with torch.no_grad():
            self.seen(net.train(), shape)
        assert torch.equal(before, net.fuzzy_lr_firing)
        torch.manual_seed(1)
        assert torch.equal(found, self.seen(twin.eval(), shape))
        plasticity.unbind()
        self.seen(net, shape)
        assert torch.equal(before, net.fuzzy_lr_firing)

    def test_copies_watch_themselves(self, make, shape):
        """Deep copies and pickles of a bound model leave the original alone, and can be bound in turn."""
        net = self.made(make)
        bound(net)
        for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
            bound(twin)
            self.seen(twin, shape)
            assert not torch.equal(twin.fuzzy_lr_firing, torch.full((6,), 0.5))
            assert torch.equal(net.fuzzy_lr_firing, torch.full((6,), 0.5))


def test_activity_compiles():
    """A layer that is watched compiles into one graph, and its firing is noted there too."""
    torch.manual_seed(0)
    net = fuzzy(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4)), distribution="activity")
    twin = copy.deepcopy(net)
    for each in (net, twin):
        bound(each)
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    for x in torch.randn(3, 7, 6):
        assert torch.equal(compiled(x), twin(x))
    assert torch.allclose(net[2].fuzzy_lr_firing, twin[2].fuzzy_lr_firing)
    assert not torch.equal(net[2].fuzzy_lr_firing, torch.full((4,), 0.5))


NO_UNITS = [
    pytest.param(lambda: nn.LSTM(4, 4), "LSTM", id="LSTM"),
    pytest.param(lambda: nn.MultiheadAttention(4, 2), "MultiheadAttention", id="MultiheadAttention"),
    pytest.param(lambda: nn.ConvTranspose1d(4, 4, 3, groups=2), "ConvTranspose1d", id="grouped transposed"),
]


@pytest.mark.parametrize(("make", "name"), NO_UNITS)
def test_activity_needs_units(make, name):
    """Where a weight's rows aren't the outputs' units, the rule is refused with the reason."""
    rules = {
        "version": 1,
        "rules": [{"match": {"type": name}, "attach": [{"fuzzy_lr": {"distribution": "activity"}}]}],
    }
    (skipped,) = bc.plan(make(), rules).skipped
    assert "is that of its output's units" in skipped.reason


@pytest.mark.parametrize("shape", [(3, 4), (4, 3, 5), (7, 1), (2, 3, 4, 5)], ids=str)
@pytest.mark.parametrize("axis", [0, 1])
def test_values_by_unit(shape, axis):
    """Any piece of a weight is given the values of its units, in the order of memory."""
    values = torch.rand(shape[axis])
    dims = [1] * len(shape)
    dims[axis] = -1
    expected = values.view(dims).expand(shape).flatten()
    run = torch.empty(shape).stride(axis)
    for start in range(len(expected)):
        for count in (1, 2, len(expected) - start):
            piece = expected[start : start + count]
            assert torch.equal(by_unit(values, run, start, len(piece)), piece)

"""A model with mechanisms is copied, saved, moved, averaged, compiled and reverted like any other."""

import copy
import pickle

import pytest
import torch
from plain_mechanisms import attach, registered
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import bioconvert as bc
from bioconvert.core.errors import OptionError


@pytest.fixture(scope="module", autouse=True)
def _plain():
    with registered():
        yield


ALL = ("plain_slow", "plain_noise", "plain_prune", "plain_look", "plain_watch")
X = torch.randn(8, 6, generator=torch.Generator().manual_seed(1))


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 5))


def converted(*mechanisms):
    return bc.convert(model(), attach(*(mechanisms or ALL)))


def bound(net):
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    return optimizer, bc.Plasticity(net, seed=3).bind(optimizer)


def step(net, optimizer):
    optimizer.zero_grad()
    net(X.to(next(net.parameters()).dtype)).float().square().mean().backward()
    optimizer.step()


def equal(a, b):
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_attaching_and_binding_change_no_bit():
    """Outputs, gradients and parameters are those of the model without mechanisms, bound or not."""
    net, twin = converted(), model()
    bound(net)
    for each in (net, twin):
        each(X).square().sum().backward()
    assert torch.equal(net(X), twin(X))
    assert [n for n, _ in net.named_parameters()] == [n for n, _ in twin.named_parameters()]
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(net.parameters(), twin.parameters(), strict=True))


def through_state(net):
    other = converted()
    other.load_state_dict(copy.deepcopy(net.state_dict()))
    return other


def assigned(net):
    other = converted()
    other.load_state_dict(copy.deepcopy(net.state_dict()), assign=True)
    return other


def emptied(net):
    other = converted().to("meta").to_empty(device="cpu")
    other.load_state_dict(net.state_dict())
    return other


def saved(net, folder):
    bc.save(net, folder / "saved")
    return bc.load(folder / "saved", factory=model)


COPIES = [
    pytest.param(lambda net, folder: copy.deepcopy(net), id="deepcopy"),
    pytest.param(lambda net, folder: pickle.loads(pickle.dumps(net)), id="pickle"),
    pytest.param(lambda net, folder: through_state(net), id="state_dict"),
    pytest.param(lambda net, folder: assigned(net), id="assign"),
    pytest.param(lambda net, folder: emptied(net), id="to_empty"),
    pytest.param(saved, id="bc.save and bc.load"),
]


@pytest.mark.parametrize("duplicate", COPIES)
class TestCopies:
    def test_go_on_as_the_original(self, duplicate, tmp_path):
        """A copy with its own optimizer goes on bit for bit as the original, random numbers included."""
        net = converted()
        optimizer, plasticity = bound(net)
        for _ in range(3):
            step(net, optimizer)
        other = duplicate(net, tmp_path)
        assert equal(net, other)
        twin, resumed = bound(other)
        twin.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        resumed.load_state_dict(copy.deepcopy(plasticity.state_dict()))
        for _ in range(3):
            step(net, optimizer)
            step(other, twin)
        assert equal(net, other)

    def test_have_no_part_in_the_original(self, duplicate, tmp_path):
        """What the original's optimizer does leaves a copy alone, and nothing watches the copy."""
        net = converted()
        optimizer, _ = bound(net)
        step(net, optimizer)
        other = duplicate(net, tmp_path)
        before = copy.deepcopy(other.state_dict())
        step(net, optimizer)
        other(X)
        assert all(torch.equal(before[name], value) for name, value in other.state_dict().items())


def test_watching_ends_and_begins_again():
    """Hooks go with unbind; a copy that is bound watches itself, once."""
    net = converted("plain_watch")
    _, plasticity = bound(net)
    other = copy.deepcopy(net)
    bound(other)
    assert [len(each[0]._forward_hooks) for each in (net, other)] == [1, 1]
    other(X)
    assert float(other[0].plain_watch_seen) == 1
    assert float(net[0].plain_watch_seen) == 0
    plasticity.unbind()
    assert not net[0]._forward_hooks


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_goes_on_in_another_type(dtype):
    """After `.to(dtype)` the bound optimizer goes on, in that type."""
    net = converted("plain_slow", "plain_noise", "plain_look")
    optimizer, _ = bound(net)
    net.to(dtype)
    before = net[0].weight.detach().clone()
    step(net, optimizer)
    assert net[0].plain_slow_rate.dtype is net[0].weight.dtype is dtype
    assert not torch.equal(net[0].weight, before)
    assert float(net[0].plain_look_count) == 1


def test_an_average_of_weights():
    """An averaged model takes in weights, and what is kept of them; it has no part in the steps."""
    net = converted("plain_slow", "plain_look")
    optimizer, _ = bound(net)
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    weights = []
    for _ in range(2):
        step(net, optimizer)
        average.update_parameters(net)
        weights.append(net[0].weight.detach().clone())
    inside = average.module[0]
    assert torch.equal(inside.weight, (weights[0] + weights[1]) / 2)
    assert torch.equal(inside.plain_look_sum, net[0].plain_look_sum)
    step(net, optimizer)
    assert float(inside.plain_look_count) == 2


def test_revert_takes_everything_off():
    """After revert the model has the keys, classes and trained weights of one without mechanisms."""
    net = converted()
    optimizer, plasticity = bound(net)
    step(net, optimizer)
    plasticity.unbind()
    weights = [p.detach().clone() for p in net.parameters()]
    bc.revert(net)
    assert net.state_dict().keys() == model().state_dict().keys()
    assert [type(m) for m in net.modules()] == [type(m) for m in model().modules()]
    assert vars(net[0]).keys() == vars(model()[0]).keys()
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), weights, strict=True))


def test_a_compiled_model():
    """A compiled model trains as the plain one does; random numbers go by the same names."""
    net, plain = converted("plain_slow", "plain_noise"), converted("plain_slow", "plain_noise")
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    optimizer, plasticity = bound(compiled)
    assert [synapses.path for synapses in plasticity.synapses] == ["0.weight", "2.weight"]
    alone, _ = bound(plain)
    for _ in range(3):
        step(compiled, optimizer)
        step(plain, alone)
    found, expected = net.state_dict(), plain.state_dict()
    assert all(torch.allclose(found[name], expected[name], atol=1e-6) for name in expected)


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.b(self.a(x))


def test_a_tied_weight_is_attached_to_once():
    """The second owner of a weight is skipped, with the first one's name."""
    plan = bc.plan(Tied(), attach("plain_look"))
    assert [each.path for each in plan.applied] == ["a"]
    assert [(each.path, each.reason) for each in plan.skipped] == [
        ("b", "its weight is that of 'a', which has plain_look already")
    ]
    net = Tied()
    bc.convert(net, attach("plain_look"))
    optimizer, _ = bound(net)
    step(net, optimizer)
    assert float(net.a.plain_look_count) == 1
    assert net.a.weight is net.b.weight
    assert "plain_look_count" not in net.b._buffers


def test_names_are_those_of_the_model_alone():
    """A part wrapped for checkpointing keeps its name, and its random numbers with it."""
    net = converted("plain_noise")
    net[0] = checkpoint_wrapper(net[0])
    assert [synapses.path for synapses in bc.Plasticity(net).synapses] == ["0.weight", "2.weight"]


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.*:DeprecationWarning")
def test_a_model_without_its_weights_is_refused():
    """A wrapper that holds the weights in another form is an error that names it."""
    with pytest.raises(OptionError, match="a scripted module, in which weights are no longer what they were"):
        bc.Plasticity(torch.jit.trace(converted("plain_noise"), X))

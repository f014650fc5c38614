"""Mechanisms under every optimizer: what they see, what they do, what counts as a step."""

import copy
import logging
import pickle

import pytest
import torch
from plain_mechanisms import attach, registered
from torch import nn

import bioconvert as bc
from bioconvert.core.errors import OptionError
from bioconvert.plasticity.layout import flat


@pytest.fixture(scope="module", autouse=True)
def _plain():
    with registered():
        yield


def model(dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 5)).to(dtype)


X = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def step(net, optimizer, dtype=torch.float32):
    optimizer.zero_grad()
    net(X.to(dtype)).float().square().mean().backward()
    optimizer.step()


FAMILIES = {
    "SGD": lambda p, **how: torch.optim.SGD(p, lr=1e-2, momentum=0.9, weight_decay=0.1, **how),
    "plain SGD": lambda p, **how: torch.optim.SGD(p, lr=1e-2, **how),
    "Adam": lambda p, **how: torch.optim.Adam(p, lr=1e-2, **how),
    "AdamW": lambda p, **how: torch.optim.AdamW(p, lr=1e-2, **how),
    "Adagrad": lambda p, **how: torch.optim.Adagrad(p, lr=1e-2, **how),
    "RMSprop": lambda p, **how: torch.optim.RMSprop(p, lr=1e-2, **how),
}
WAYS = {"default": {}, "foreach": {"foreach": True}, "fused": {"fused": True}}
OPTIMIZERS = [
    pytest.param(family, how, id=f"{family}, {way}")
    for family in FAMILIES
    for way, how in WAYS.items()
    if (family, way) != ("RMSprop", "fused")
]


@pytest.mark.parametrize(("family", "how"), OPTIMIZERS)
class TestEveryOptimizer:
    def test_rates_multiply_the_update(self, family, how):
        """At each of several steps a weight moves by its rate times the optimizer's own update."""
        net, twin = bc.convert(model(), attach({"plain_slow": {"target": "update"}})), model()
        optimizer, alone = (FAMILIES[family](m.parameters(), **how) for m in (net, twin))
        bc.Plasticity(net).bind(optimizer)
        for _ in range(3):
            twin.load_state_dict(net.state_dict(), strict=False)
            before = [p.detach().clone() for p in net.parameters()]
            step(net, optimizer)
            step(twin, alone)
            for start, after, free in zip(before, net.parameters(), twin.parameters(), strict=True):
                rate = torch.ones_like(start)
                if start.dim() > 1:
                    flat(rate)[::2] = 0.1
                assert torch.allclose(after - start, rate * (free - start), atol=1e-6)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    @pytest.mark.parametrize("target", ["update", "gradient"])
    def test_a_rate_of_one_changes_no_bit(self, family, how, dtype, target):
        """A factor of 1 leaves the optimizer's own result, in half precision too."""
        net = bc.convert(model(dtype), attach({"plain_still": {"target": target}}))
        twin = model(dtype)
        optimizer, alone = (FAMILIES[family](m.parameters(), **how) for m in (net, twin))
        bc.Plasticity(net).bind(optimizer)
        for _ in range(3):
            step(net, optimizer, dtype)
            step(twin, alone, dtype)
        assert all(torch.equal(a, b) for a, b in zip(net.parameters(), twin.parameters(), strict=True))

    def test_a_closure_is_seen_through(self, family, how):
        """A closure given to `step` finds the gradients; the result is that of a step without one."""
        nets = [bc.convert(model(), attach("plain_slow", "plain_look")) for _ in range(2)]
        optimizers = [FAMILIES[family](net.parameters(), **how) for net in nets]
        for net, optimizer in zip(nets, optimizers, strict=True):
            bc.Plasticity(net).bind(optimizer)

        def closure():
            optimizers[0].zero_grad()
            loss = nets[0](X).square().mean()
            loss.backward()
            return loss

        for given in ((closure,), (closure,)):
            assert optimizers[0].step(*given).item() > 0
            step(nets[1], optimizers[1])
        optimizers[0].step(closure=closure)
        step(nets[1], optimizers[1])
        states = [net.state_dict() for net in nets]
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
        assert float(nets[0][0].plain_look_count) == 3


def test_groups_with_rates_of_their_own():
    """Each group's learning rate goes on to hold."""
    net, twin = bc.convert(model(), attach("plain_slow")), model()
    optimizer, alone = (
        torch.optim.Adam([{"params": m[0].parameters(), "lr": 1e-3}, {"params": m[2].parameters()}], lr=1e-2)
        for m in (net, twin)
    )
    start = copy.deepcopy(twin)
    bc.Plasticity(net).bind(optimizer)
    step(net, optimizer)
    step(twin, alone)
    for i in (0, 2):
        moved = flat(net[i].weight - start[i].weight)
        free = flat(twin[i].weight - start[i].weight)
        assert torch.allclose(moved[1::2], free[1::2], atol=1e-7)
        assert torch.allclose(moved[::2], 0.1 * free[::2], atol=1e-7)


def test_a_group_added_later_takes_part():
    """What the optimizer is given after binding is acted on as well."""
    net = bc.convert(model(), attach("plain_look"))
    optimizer = torch.optim.SGD(net[0].parameters(), lr=1e-2)
    bc.Plasticity(net).bind(optimizer)
    step(net, optimizer)
    optimizer.add_param_group({"params": list(net[2].parameters())})
    step(net, optimizer)
    assert float(net[0].plain_look_count) == 2
    assert float(net[2].plain_look_count) == 1


def test_each_optimizer_counts_its_own_steps():
    """With two optimizers, schedules go by the steps of the one that holds the weight."""
    net = bc.convert(model(), attach({"plain_look": {"every": 2}}))
    first, second = (torch.optim.SGD(net[i].parameters(), lr=1e-2) for i in (0, 2))
    plasticity = bc.Plasticity(net).bind(first).bind(second)
    for _ in range(4):
        step(net, first)
    step(net, second)
    assert float(net[0].plain_look_count) == 2
    assert float(net[2].plain_look_count) == 0
    assert [each["steps"] for each in plasticity.state_dict()["optimizers"]] == [4, 1]


@pytest.mark.parametrize("load_first", [True, False], ids=["loaded, then bound", "bound, then loaded"])
def test_steps_go_to_the_optimizer_of_the_same_weights(load_first):
    """A state is matched by the names of the weights, in whatever order the optimizers are bound."""
    net = bc.convert(model(), attach("plain_look"))
    first, second = (torch.optim.SGD(net[i].parameters(), lr=1e-2) for i in (0, 2))
    plasticity = bc.Plasticity(net).bind(first).bind(second)
    for _ in range(3):
        step(net, second)
    state = plasticity.state_dict()
    plasticity.unbind()
    resumed = bc.Plasticity(net)
    if load_first:
        resumed.load_state_dict(state)
    resumed.bind(second).bind(first)
    if not load_first:
        resumed.load_state_dict(state)
    found = {tuple(each["parameters"]): each["steps"] for each in resumed.state_dict()["optimizers"]}
    assert found == {("2.weight",): 3, ("0.weight",): 0}


def test_bound_again_goes_on():
    """After unbind and bind, the count goes on."""
    net = bc.convert(model(), attach("plain_look"))
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-2)
    plasticity = bc.Plasticity(net).bind(optimizer)
    step(net, optimizer)
    plasticity.unbind()
    step(net, optimizer)
    plasticity.bind(optimizer)
    step(net, optimizer)
    assert [each["steps"] for each in plasticity.state_dict()["optimizers"]] == [2]


def test_weights_without_gradient_are_left_alone():
    """Frozen weights, and those that the loss doesn't reach, are neither acted on nor counted."""
    net = bc.convert(model(), attach("plain_look", "plain_prune", "plain_noise"))
    net[0].weight.requires_grad_(False)
    before = net[0].weight.detach().clone()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    bc.Plasticity(net).bind(optimizer)
    step(net, optimizer)
    assert torch.equal(net[0].weight, before)
    assert float(net[0].plain_look_count) == 0
    assert float(net[2].plain_look_count) == 1


def test_accumulated_gradients_are_one_step():
    """Of several backward passes before a step, mechanisms see the sum, once."""
    net = bc.convert(model(), attach("plain_look"))
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-2)
    bc.Plasticity(net).bind(optimizer)
    for half in X.split(4):
        net(half).square().mean().div(2).backward()
    expected = net[0].weight.grad.clone()
    optimizer.step()
    assert torch.equal(net[0].plain_look_sum, expected)
    assert float(net[0].plain_look_count) == 1


def test_clipped_gradients_are_seen_as_clipped():
    """Mechanisms see what the optimizer is given."""
    net = bc.convert(model(), attach("plain_look"))
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-2)
    bc.Plasticity(net).bind(optimizer)
    net(X).square().mean().backward()
    nn.utils.clip_grad_norm_(net.parameters(), 1e-3)
    optimizer.step()
    seen = torch.cat([flat(net[i].plain_look_sum) for i in (0, 2)])
    assert 0 < float(seen.norm()) <= 1.001e-3


SCALED = [
    pytest.param(lambda p: torch.optim.SGD(p, lr=1e-2), id="SGD"),
    pytest.param(lambda p: torch.optim.SGD(p, lr=1e-2, fused=True), id="fused SGD"),
    pytest.param(lambda p: torch.optim.Adam(p, lr=1e-2), id="Adam"),
    pytest.param(lambda p: torch.optim.Adam(p, lr=1e-2, fused=True), id="fused Adam"),
]


@pytest.mark.parametrize("unscale", [False, True], ids=["", "unscaled by hand"])
@pytest.mark.parametrize("make", SCALED)
class TestGradScaler:
    def train(self, make, unscale, *, scaled, losses):
        net = bc.convert(model(), attach("plain_slow", "plain_look"))
        optimizer = make(net.parameters())
        plasticity = bc.Plasticity(net).bind(optimizer)
        scaler = torch.amp.GradScaler("cpu", enabled=scaled, init_scale=2.0**10)
        for weight in losses:
            optimizer.zero_grad()
            scaler.scale(net(X).square().mean() * weight).backward()
            if unscale:
                scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
        return net, plasticity

    def test_true_gradients_are_seen(self, make, unscale):
        """With a scaler, mechanisms see and do what they see and do without."""
        net, _ = self.train(make, unscale, scaled=True, losses=(1.0, 1.0))
        plain, _ = self.train(make, False, scaled=False, losses=(1.0, 1.0))
        found, expected = net.state_dict(), plain.state_dict()
        assert all(torch.allclose(found[name], expected[name], atol=1e-7) for name in expected)

    def test_a_step_left_out_does_not_count(self, make, unscale):
        """After an overflow nothing changes, and no step is counted."""
        net, plasticity = self.train(make, unscale, scaled=True, losses=(1.0, float("inf"), 1.0))
        plain, _ = self.train(make, False, scaled=False, losses=(1.0, 1.0))
        assert plasticity.state_dict()["optimizers"][0]["steps"] == 2
        assert float(net[0].plain_look_count) == 2
        found, expected = net.state_dict(), plain.state_dict()
        assert all(torch.allclose(found[name], expected[name], atol=1e-7) for name in expected)


COPIES = [
    pytest.param(copy.deepcopy, id="deepcopy"),
    pytest.param(lambda each: pickle.loads(pickle.dumps(each)), id="pickle"),
]


@pytest.mark.parametrize("duplicate", COPIES)
def test_a_copied_optimizer_steps_alone(duplicate):
    """Copies of model and optimizer have no hooks, the originals keep theirs, and the copies can be bound."""
    net = bc.convert(model(), attach("plain_look"))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    bc.Plasticity(net).bind(optimizer)
    step(net, optimizer)
    other, twin = duplicate((net, optimizer))
    step(other, twin)
    assert float(net[0].plain_look_count) == float(other[0].plain_look_count) == 1
    bc.Plasticity(other).bind(twin)
    step(other, twin)
    assert float(net[0].plain_look_count) == 1
    assert float(other[0].plain_look_count) == 2


def test_the_optimizer_behind_another_is_bound():
    """A wrapper with the true optimizer in `.optimizer`, as accelerate has it, is looked through."""

    class Wrapper(torch.optim.Optimizer):
        def __init__(self, optimizer):
            self.optimizer = optimizer

        def step(self, closure=None):
            return self.optimizer.step(closure)

    net = bc.convert(model(), attach("plain_look"))
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-2)
    wrapper = Wrapper(optimizer)
    bc.Plasticity(net).bind(wrapper)
    net(X).sum().backward()
    wrapper.step()
    assert float(net[0].plain_look_count) == 1


def test_a_gradient_that_lies_otherwise():
    """Where weight, gradient and state lie in different orders, each weight still gets its own rate."""
    nets = [bc.convert(model(), attach("plain_slow", "plain_look")) for _ in range(2)]
    nets[0][0].weight.data = nets[0][0].weight.data.contiguous(memory_format=torch.channels_last)
    nets[0][0].plain_slow_rate = nets[1][0].plain_slow_rate.clone()
    start = nets[1][0].weight.detach().clone()
    gradient = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(2))
    for net in nets:
        optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
        bc.Plasticity(net).bind(optimizer)
        net[0].weight.grad = gradient.clone()
        optimizer.step()
    assert not torch.equal(nets[1][0].weight, start - gradient)
    assert torch.equal(nets[0][0].weight, nets[1][0].weight)


def with_gaps():
    net = bc.convert(nn.Sequential(nn.Linear(4, 4, bias=False)), attach("plain_look"))
    net[0].weight = nn.Parameter(torch.randn(4, 8)[:, ::2])
    return net, torch.optim.SGD(net.parameters(), lr=1)


def plain(make):
    def made():
        net = bc.convert(model(), attach("plain_look"))
        return net, make(net.parameters())

    return made


def bound_by_another():
    net, optimizer = plain(lambda p: torch.optim.SGD(p, lr=1))()
    bc.Plasticity(net).bind(optimizer)
    return net, optimizer


REFUSED = [
    pytest.param(plain(lambda p: torch.optim.LBFGS(p)), "several times a step", id="LBFGS"),
    pytest.param(with_gaps, "'0.weight' is a view with gaps", id="view"),
    pytest.param(bound_by_another, "bound already", id="another Plasticity"),
]


@pytest.mark.parametrize(("make", "reason"), REFUSED)
def test_what_can_not_be_bound(make, reason):
    """What mechanisms can't work with is an error when it is bound, and leaves no hook."""
    net, optimizer = make()
    hooks = len(optimizer._optimizer_step_pre_hooks)
    with pytest.raises(OptionError, match=reason):
        bc.Plasticity(net).bind(optimizer)
    assert len(optimizer._optimizer_step_pre_hooks) == hooks


def test_a_sparse_gradient_is_refused():
    """A sparse gradient is an error that names the weight, before anything has changed."""
    net = bc.convert(nn.Sequential(nn.Embedding(5, 3, sparse=True)), attach("plain_look", to=["embedding"]))
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-2)
    bc.Plasticity(net).bind(optimizer)
    before = net[0].weight.detach().clone()
    net(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(OptionError, match=r"gradient of '0.weight' is sparse"):
        optimizer.step()
    assert torch.equal(net[0].weight, before)


def test_an_optimizer_that_lost_its_weights_is_told_of_once(caplog):
    """After other Parameters took the places of those that the optimizer holds, its steps warn, once."""
    net = bc.convert(model(), attach("plain_look"))
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-2)
    bc.Plasticity(net).bind(optimizer)
    net.load_state_dict(copy.deepcopy(net.state_dict()), assign=True)
    with caplog.at_level(logging.WARNING, "bioconvert"):
        for _ in range(2):
            step(net, optimizer)
    assert [record.message for record in caplog.records if "no longer holds" in record.message] != []
    assert len(caplog.records) == 1

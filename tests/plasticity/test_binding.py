"""Mechanisms around an optimizer's step: what they see, when they act, and what comes of it."""

import copy
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn

import bioconvert as bc
from bioconvert.core import registry
from bioconvert.core.errors import OptionError
from bioconvert.plasticity.mechanism import Mechanism, plastic, weight_like
from bioconvert.plasticity.part import flat


@plastic("test_slow")
@dataclass(frozen=True, kw_only=True)
class Slow(Mechanism):
    """Slows every second weight down."""

    factor: float = 0.1

    scales: ClassVar[bool] = True

    def tensors(self, parameter):
        """Keep the factors."""

        def make(weight, stream):
            factors = torch.ones(weight.numel())
            factors[::2] = self.factor
            return factors.view(weight.shape)

        return {"rate": weight_like(parameter, make)}

    def scale(self, part):
        """Multiply by the factors."""
        part.multiply(part.kept(self, "rate"), self)


@plastic("test_counter")
@dataclass(frozen=True, kw_only=True)
class Counter(Mechanism):
    """Counts how often it changes something."""

    def tensors(self, parameter):
        """Keep the number."""
        return {"count": weight_like(parameter, lambda weight, stream: torch.zeros(1))}

    def change(self, synapses, moment):
        """Count."""
        synapses.tensor(self, "count").add_(1)


@pytest.fixture(scope="module", autouse=True)
def unregistered():
    """Leave no trace of these mechanisms in the registry."""
    yield
    for name in ("test_slow", "test_counter"):
        registry.mechanisms._entries.pop(name)


def attach(*mechanisms):
    return {"version": 1, "rules": [{"match": {"type": ["linear", "conv"]}, "attach": list(mechanisms)}]}


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 5))


X = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(1))
OPTIMIZERS = [
    pytest.param(lambda p: torch.optim.SGD(p, lr=1e-2), id="SGD"),
    pytest.param(lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, weight_decay=0.1), id="SGD, decay"),
    pytest.param(lambda p: torch.optim.Adam(p, lr=1e-2), id="Adam"),
    pytest.param(lambda p: torch.optim.Adam(p, lr=1e-2, foreach=True), id="foreach"),
    pytest.param(lambda p: torch.optim.Adam(p, lr=1e-2, fused=True), id="fused"),
    pytest.param(lambda p: torch.optim.AdamW(p, lr=1e-2), id="AdamW"),
]


def step(net, optimizer):
    optimizer.zero_grad()
    net(X).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize("make", OPTIMIZERS)
class TestRates:
    def test_multiply_the_update(self, make):
        """Each weight moves by its rate times what the optimizer alone would have moved it by."""
        net, twin = bc.convert(model(), attach({"test_slow": {}})), model()
        start = [p.detach().clone() for p in twin.parameters()]
        optimizer, alone = make(net.parameters()), make(twin.parameters())
        bc.Plasticity(net).bind(optimizer)
        step(net, optimizer)
        step(twin, alone)
        for name, before, after, free in zip(
            dict(net.named_parameters()), start, net.parameters(), twin.parameters(), strict=True
        ):
            rate = torch.ones_like(before)
            if "weight" in name:
                flat(rate)[::2] = 0.1
            assert torch.allclose(after - before, rate * (free - before), atol=1e-6)

    def test_unbind_ends_it(self, make):
        """After unbind the optimizer steps alone."""
        net, twin = bc.convert(model(), attach({"test_slow": {}})), model()
        optimizer, alone = make(net.parameters()), make(twin.parameters())
        bc.Plasticity(net).bind(optimizer).unbind()
        step(net, optimizer)
        step(twin, alone)
        assert all(torch.equal(a, b) for a, b in zip(net.parameters(), twin.parameters(), strict=True))


SCHEDULES = [
    pytest.param({}, [0, 1, 2, 3, 4, 5, 6, 7], id="always"),
    pytest.param({"every": 3}, [2, 5], id="every third"),
    pytest.param({"start": 2, "stop": 5}, [2, 3, 4], id="for a time"),
    pytest.param({"start": 1, "every": 2, "stop": 6}, [2, 4], id="both"),
]


@pytest.mark.parametrize(("schedule", "expected"), SCHEDULES)
def test_acts_when_it_is_due(schedule, expected):
    """`every`, `start` and `stop` are honoured."""
    net = bc.convert(model(), attach({"test_counter": schedule}))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    bc.Plasticity(net).bind(optimizer)
    acted = []
    for i in range(8):
        before = float(net[0].test_counter_count)
        step(net, optimizer)
        if float(net[0].test_counter_count) > before:
            acted.append(i)
    assert acted == expected


def test_warms_up():
    """Over `warmup` steps the rate comes from near 1 to what it is."""
    net = bc.convert(nn.Linear(4, 4, bias=False), attach({"test_slow": {"warmup": 3, "factor": 0.2}}))
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    bc.Plasticity(net).bind(optimizer)
    moved = []
    for _ in range(5):
        before = net.weight.detach().clone()
        net.weight.grad = torch.ones(4, 4)
        optimizer.step()
        moved.append(float((before - net.weight)[0, 0].detach()))
    assert moved == pytest.approx([0.8, 0.6, 0.4, 0.2, 0.2])


def test_attaching_changes_no_bit():
    """Outputs, gradients and the number of parameters are those of the model without mechanisms."""
    net, twin = bc.convert(model(), attach({"test_slow": {}}, {"test_counter": {}})), model()
    for each in (net, twin):
        each(X).square().sum().backward()
    assert torch.equal(net(X), twin(X))
    assert [n for n, _ in net.named_parameters()] == [n for n, _ in twin.named_parameters()]
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(net.parameters(), twin.parameters(), strict=True))


def test_a_tied_weight_has_one_state():
    """Of two layers that share a weight, the first one's state is used, once a step."""

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.b(self.a(x.flatten(1)[:, :6]))

    net = bc.convert(Tied(), attach({"test_counter": {}}))
    plasticity = bc.Plasticity(net)
    assert [synapses.path for synapses in plasticity.synapses] == ["a.weight"]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    plasticity.bind(optimizer)
    step(net, optimizer)
    assert float(net.a.test_counter_count) == 1


def test_goes_on_where_it_was():
    """Model, optimizer and plasticity restored from their states go on bit for bit."""

    def made():
        net = bc.convert(model(), attach({"test_slow": {"warmup": 10}}, {"test_counter": {"every": 2}}))
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
        return net, optimizer, bc.Plasticity(net, seed=3).bind(optimizer)

    net, optimizer, plasticity = made()
    for _ in range(3):
        step(net, optimizer)
    states = [copy.deepcopy(each.state_dict()) for each in (net, optimizer, plasticity)]
    others = made()
    for each, state in zip(others, states, strict=True):
        each.load_state_dict(state)
    for _ in range(3):
        step(net, optimizer)
        step(others[0], others[1])
    expected, found = net.state_dict(), others[0].state_dict()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


REFUSALS = [
    pytest.param(lambda: bc.Plasticity(model()), "no mechanism of plasticity", id="nothing attached"),
    pytest.param(
        lambda: bc.Plasticity(bc.convert(model(), attach("test_slow"))).bind(
            torch.optim.SGD(model().parameters(), lr=1)
        ),
        "holds none of the weights",
        id="another model's optimizer",
    ),
]


@pytest.mark.parametrize(("make", "reason"), REFUSALS)
def test_what_can_not_be(make, reason):
    """What can't be bound is an error that says what to do."""
    with pytest.raises(OptionError, match=reason):
        make()


def test_binding_twice():
    """An optimizer is bound once."""
    net = bc.convert(model(), attach("test_slow"))
    optimizer = torch.optim.SGD(net.parameters(), lr=1)
    plasticity = bc.Plasticity(net).bind(optimizer)
    with pytest.raises(OptionError, match="bound already"):
        plasticity.bind(optimizer)

"""The bound optimizer's steps take morphing layers on their way."""

import pytest
import torch
from plain_mechanisms import attach, registered
from torch import nn

import bioconvert as bc
from bioconvert.graph.progress import count_step, counter_of


@pytest.fixture(scope="module", autouse=True)
def _plain():
    with registered():
        yield


X = torch.linspace(-1, 1, 12).view(2, 6)
MORPH = {"match": {"path": "0"}, "replace": {"with": "YatLinear", "morph": {"steps": 4}}}
FADE = {
    "match": {"path": "0", "followed_by": ["ReLU"]},
    "replace": {"with": "YatLinear", "activation": "drop", "morph": {"steps": 4}},
}


def rules(*given):
    return {"version": 1, "rules": list(given)}


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


class Inline(nn.Module):
    """Applies its activation as a function, so that the container fades it out."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(6, 8)
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        return self.out(torch.nn.functional.relu(self.fc(x)))


def inline():
    rule = {
        "match": {"path": "fc", "followed_by": ["ReLU"]},
        "replace": {"with": "YatLinear", "activation": "drop", "morph": {"steps": 4}},
    }
    return bc.convert(Inline(), rules(rule))


MORPHING = [
    pytest.param(lambda: bc.convert(model(), rules(MORPH)), id="layer"),
    pytest.param(lambda: bc.convert(model(), rules(FADE)), id="layer and activation"),
    pytest.param(inline, id="function"),
]


def counters(net):
    return [int(counter) for m in net.modules() if (counter := counter_of(m)) is not None]


def step(net, optimizer):
    optimizer.zero_grad()
    net(X).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize("make", MORPHING)
class TestMorphing:
    def test_goes_by_the_steps_of_the_bound_optimizer(self, make):
        """Each step counts once, as `bc.morph_step` would, and the model is the same bit for bit."""
        net, by_hand = make(), make()
        optimizer, alone = (torch.optim.Adam(m.parameters(), lr=1e-2) for m in (net, by_hand))
        bc.Plasticity(net).bind(optimizer)
        for done in range(1, 6):
            step(net, optimizer)
            step(by_hand, alone)
            bc.morph_step(by_hand)
            assert counters(net) == counters(by_hand)
            assert set(counters(net)) == {done}
        assert torch.equal(net(X), by_hand(X))

    def test_ends_with_finalize(self, make):
        """After finalize nothing is counted, and the optimizer goes on."""
        net = make()
        optimizer = torch.optim.SGD(net.parameters(), lr=1e-2)
        bc.Plasticity(net).bind(optimizer)
        step(net, optimizer)
        bc.finalize(net, optimizer=optimizer)
        step(net, optimizer)
        assert counters(net) == []


def test_with_mechanisms():
    """A morphing layer that carries a mechanism goes on, and is acted on."""
    net = bc.convert(model(), rules(MORPH, *attach("plain_look")["rules"]))
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-2)
    bc.Plasticity(net).bind(optimizer)
    step(net, optimizer)
    assert counters(net) == [1]
    assert float(net[0].plain_look_count) == 1


def test_of_two_optimizers_the_first_that_trains_it_counts():
    """A layer goes by the steps of one optimizer only."""
    net = bc.convert(model(), rules(MORPH, *attach("plain_look")["rules"]))
    other, first, second = (torch.optim.SGD(each.parameters(), lr=1e-2) for each in (net[2], net[0], net[0]))
    plasticity = bc.Plasticity(net)
    for each in (other, first, second):
        plasticity.bind(each)
    for each in (other, first, second, second):
        step(net, each)
    assert counters(net) == [1]


def test_a_step_left_out_does_not_count():
    """A step that a scaler leaves out takes no layer further."""
    net = bc.convert(model(), rules(MORPH))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2, fused=True)
    bc.Plasticity(net).bind(optimizer)
    scaler = torch.amp.GradScaler("cpu")
    for weight in (float("inf"), 1.0):
        optimizer.zero_grad()
        scaler.scale(net(X).square().mean() * weight).backward()
        scaler.step(optimizer)
        scaler.update()
    assert counters(net) == [1]


def test_a_buffer_of_that_name_is_no_count():
    """What a model of its own calls `morph_step` is left alone."""
    net = nn.Linear(2, 2)
    net.register_buffer("morph_step", torch.zeros(1))
    count_step(net)
    assert counter_of(net) is None
    assert float(net.morph_step) == 0

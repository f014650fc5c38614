"""Carrying out the edits of a forward that can't be traced with the arguments it is given."""

import pytest
import torch
from small_models import seeded
from torch import nn
from torch.nn import functional as F

import bioconvert as bc

ROWS = torch.linspace(-1, 1, 12).view(3, 4)
IMAGES = torch.linspace(-1, 1, 2 * 3 * 8 * 8).view(2, 3, 8, 8)


class Cubed(nn.Module):
    """An activation of several operations."""

    def forward(self, x):
        return x * x * x


class GELUActivation(Cubed):
    """Goes by a name that rules know."""


class Choosing(nn.Module):
    """Can be traced with `careful` off alone."""

    careful = False

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 4)
        self.bn, self.relu, self.own = nn.BatchNorm2d(4), nn.ReLU(inplace=True), GELUActivation()

    def forward(self, x):
        y = self.between(x)
        if self.careful and y.sum() > 1e9:
            return -y
        return y

    def expected(self, x):
        """Say what the forward gives without the activation behind the layer."""
        return self.between(x)


class Function(Choosing):
    def between(self, x):
        return F.relu(self.fc(x), inplace=True) + F.relu(x)

    def expected(self, x):
        return self.fc(x) + F.relu(x)


class Method(Choosing):
    def between(self, x):
        return self.fc(x).relu() * 2

    def expected(self, x):
        return self.fc(x) * 2


class Shared(Choosing):
    """Calls one module for the layer and for something else."""

    def between(self, x):
        return self.relu(self.fc(x)) - self.relu(x * 1)

    def expected(self, x):
        return self.fc(x) - F.relu(x)


class Composed(Choosing):
    """Has an activation that is no single function, called twice."""

    def between(self, x):
        return self.own(self.fc(x)) + self.own(x)

    def expected(self, x):
        return self.fc(x) + x * x * x


class Normalised(Choosing):
    """Has a norm between the layer and its activation."""

    def between(self, x):
        y = self.bn(self.conv(x))
        torch._assert(y.ndim == 4, "a picture")
        return F.relu(y)

    def expected(self, x):
        return self.bn(self.conv(x))


class Forked(Choosing):
    """Uses a layer's output twice where it isn't careful enough to be traced."""

    def between(self, x):
        y = self.fc(x)
        return y + 1 if self.careful else F.relu(y)

    def expected(self, x):
        return self.fc(x) + 1


CASES = [
    pytest.param(Function, ROWS, id="function, in place"),
    pytest.param(Method, ROWS, id="method"),
    pytest.param(Shared, ROWS, id="shared module"),
    pytest.param(Composed, ROWS, id="composed module"),
    pytest.param(Normalised, IMAGES, id="norm in between"),
    pytest.param(Forked, ROWS, id="nothing to leave out"),
]


def rules(**replace):
    """Give a rule set under which activations go with their layers."""
    links = ["BatchNorm2d?", "ReLU|GELUActivation"]
    return {
        "version": 1,
        "rules": [
            {
                "match": {"type": family, "followed_by": links},
                "replace": {"with": name, "activation": "drop", **replace},
                "optional": True,
            }
            for family, name in (("linear", "YatLinear"), ("conv", "YatConv2d"))
        ],
    }


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("make", "x"), CASES)
class TestEachWayOfCalling:
    def test_the_activation_is_left_out_as_it_comes(self, make, x, training):
        """The same as with the flag off, where the forward was rewritten; every time, and with gradients."""
        model = bc.convert(seeded(make), rules()).train(training)
        for careful in (False, True, True):
            model.careful = careful
            if make is Forked and not careful:
                continue
            state = {name: buffer.clone() for name, buffer in model.named_buffers()}
            output = model(x)
            output.sum().backward()
            for name, buffer in model.named_buffers():
                buffer.copy_(state[name])
            assert torch.equal(output, model.expected(x))
        assert model._modules.keys() == seeded(make)._modules.keys()

    def test_fading_is_carried_out_too(self, make, x, training):
        """Half-way, with a norm that stays: as with the flag off."""
        if make is Forked:
            pytest.skip("the two flags compute different things")
        model = bc.convert(seeded(make), rules(morph={"steps": 4})).train(training)
        for _ in range(2):
            bc.morph_step(model)
        results = []
        for careful in (False, True):
            model.careful = careful
            results.append(model(x))
        assert torch.allclose(*results, atol=1e-6)


def test_hooks_do_not_pile_up():
    """What is watched during a call is let go after it, also when the call fails."""
    model = bc.convert(seeded(Shared), rules())
    model.careful = True
    model(ROWS)
    with pytest.raises(RuntimeError):
        model(torch.zeros(3, 5))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())

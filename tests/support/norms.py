"""Layers that compute what they did, and blocks with normalisations, to see what becomes of the latter."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bioconvert.core import registry
from bioconvert.core.change import Change
from bioconvert.surgery import operations


class SameLinear(nn.Linear):
    """Computes what a Linear computes, by other means."""

    def forward(self, input):
        return input @ self.weight.t() + (0 if self.bias is None else self.bias)


class SameConv1d(nn.Conv1d):
    """A convolution by another name."""


class SameConv2d(nn.Conv2d):
    """A convolution by another name."""


class SameConv3d(nn.Conv3d):
    """A convolution by another name."""


SAME = {"Linear": SameLinear, "Conv1d": SameConv1d, "Conv2d": SameConv2d, "Conv3d": SameConv3d}


def same(layer, site):
    """Give a layer another class that computes the same."""
    return Change(into=SAME[type(layer).__name__])


def same_transposed(layer, site):
    """Do the same to transformers' ``Conv1D``."""
    cls = type(layer)
    return Change(into=type("SameConv1D", (cls,), {"forward": lambda self, x: x @ self.weight + self.bias}))


@pytest.fixture
def same_layers(monkeypatch):
    """Register a replacement that keeps the linear map, beside the ones there are."""
    fresh = registry.Registry("replacement")
    fresh.register("Same", same, tuple(f"torch.nn.{name}" for name in SAME))
    fresh.register("Same", same_transposed, ("transformers.pytorch_utils.Conv1D",))
    for name in ("YatLinear", "YatConv2d"):
        for entry in registry.replacements.entries(name).values():
            fresh.register(name, entry.build, (entry.of,))
    monkeypatch.setattr(registry, "replacements", fresh)
    monkeypatch.setattr(operations, "replacements", fresh)


def rules(norm, *, links=("norm", "ReLU?"), layer="Same", **replace):
    """Give a rule set for linear and convolutional layers with a normalisation behind them."""
    rule = {
        "match": {"type": ["linear", "conv"], "followed_by": list(links)},
        "replace": {"with": layer, "norm": norm, **replace},
    }
    return {"version": 1, "rules": [rule]}


def trained(norm):
    """Give a normalisation statistics and parameters as training leaves them: of either sign, and zero."""
    size = norm.num_features
    norm.running_mean.copy_(torch.linspace(-2, 1, size))
    norm.running_var.copy_(torch.linspace(0.1, 3, size))
    if norm.affine:
        with torch.no_grad():
            norm.weight.copy_(torch.linspace(-1, 1, size).round(decimals=3))
            norm.weight[0] = 0
            norm.bias.copy_(torch.linspace(1, -2, size))
    return norm


def state(model):
    """Give class and contents of every module."""
    return [type(m) for m in model.modules()], {k: v.clone() for k, v in model.state_dict().items()}


def assert_same_state(one, other):
    assert one[0] == other[0]
    assert list(one[1]) == list(other[1])
    assert all(torch.equal(value, other[1][name]) for name, value in one[1].items())


class Tail(nn.Module):
    """A block whose parts are called by hand."""

    def __init__(self, norm=None):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.other = nn.Conv2d(4, 4, 3, padding=1)
        self.bn = trained(nn.BatchNorm2d(4)) if norm is None else norm

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


class SharedNorm(Tail):
    def forward(self, x):
        return F.relu(self.bn(self.conv(x))) + self.bn(x)


class NormOfTwo(Tail):
    def forward(self, x):
        return F.relu(self.bn(self.conv(x))) + F.relu(self.bn(self.other(x)))


class TwoNames(Tail):
    def __init__(self):
        super().__init__()
        self.alias = self.bn


class CalledTwice(Tail):
    def forward(self, x):
        return F.relu(self.bn(self.conv(F.relu(self.bn(self.conv(x))))))


class TiedWeight(Tail):
    def __init__(self):
        super().__init__()
        self.other.weight = self.conv.weight

    def forward(self, x):
        return F.relu(self.bn(self.conv(x))) + self.other(x)


class Functional(Tail):
    def forward(self, x):
        bn = self.bn
        return F.relu(F.batch_norm(self.conv(x), bn.running_mean, bn.running_var, bn.weight, bn.bias))


class OnceWithout(Tail):
    def forward(self, x):
        return F.relu(self.bn(self.conv(x))) + self.conv(x)


class Mistaken(nn.Module):
    """Normalises a view of the layer's output whose features are others."""

    def __init__(self):
        super().__init__()
        self.fc, self.bn = nn.Linear(4, 6), nn.BatchNorm1d(5)

    def forward(self, x):
        return F.relu(self.bn(self.fc(x)))

"""Small models, each with one trait that breaks model converters."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class Mlp(nn.Module):
    """Two hidden layers with a function and a module as activations."""

    def __init__(self, width: int = 8):
        super().__init__()
        self.fc1 = nn.Linear(4, width)
        self.fc2 = nn.Linear(width, width)
        self.act = nn.GELU()
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        return self.head(self.act(self.fc2(F.relu(self.fc1(x)))))


class Cnn(nn.Module):
    """Conv, norm and one ReLU module that is called three times, the last one behind a sum."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.conv1 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        x = self.relu(self.stem(x))
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.conv2(y)
        x = self.relu(x + y)
        return self.fc(x.mean((2, 3)))


class Branching(nn.Module):
    """Its forward looks at the values of its input."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.relu = nn.ReLU()

    def forward(self, x):
        if x.sum() > 0:
            return self.relu(self.fc(x))
        return self.fc(-x)


class Optional(nn.Module):
    """A mask that is ``None`` by default, a flag, and dropout that depends on the train flag."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.scale = 2.0

    def forward(self, x, mask=None, *, double: bool = False):
        y = F.relu(self.fc(x))
        if mask is not None:
            y = y * mask
        if double:
            y = y + y
        return F.dropout(y, 0.5, self.training) * self.scale


class SharedLayer(nn.Module):
    """One Linear under two names, called three times."""

    def __init__(self):
        super().__init__()
        self.first = self.second = nn.Linear(4, 4)

    def forward(self, x):
        return self.first(self.second(self.first(x)))


class Tied(nn.Module):
    """An embedding and a head on one weight."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 4)
        self.fc = nn.Linear(4, 4)
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        return self.head(F.relu(self.fc(self.embed(tokens))))


class OwnForward(nn.Linear):
    """A Linear with a forward of its own."""

    def forward(self, input):
        return super().forward(input) * 2


class ReadAround(nn.Module):
    """Uses a layer's weight and never its forward."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(4, 4)
        self.out = nn.Linear(4, 4)

    def forward(self, x):
        return self.out(F.linear(x, self.qkv.weight, self.qkv.bias))


class SometimesReadAround(nn.Module):
    """Calls a layer or reads its weight, as its bias has it."""

    def __init__(self, separate: bool):
        super().__init__()
        self.qkv = nn.Linear(4, 4)
        self.separate = separate

    def forward(self, x):
        if self.separate:
            return F.linear(x, self.qkv.weight)
        return self.qkv(x)


class Tying(nn.Module):
    """Calls a layer and, besides, multiplies by its weight."""

    def __init__(self):
        super().__init__()
        self.f = nn.Linear(4, 4)

    def forward(self, x):
        return F.linear(self.f(x), self.f.weight)


class StaleReferences(nn.Module):
    """Lists that hold layers: one registered elsewhere, one not at all."""

    def __init__(self):
        super().__init__()
        self.f = nn.Linear(4, 4)
        self.alias = [self.f]
        self.hidden = [nn.Linear(4, 4)]

    def forward(self, x):
        return self.hidden[0](self.alias[0](x))


class AttributeReads(nn.Module):
    """Looks at its layer's weight, attributes and class."""

    def __init__(self):
        super().__init__()
        self.wo = nn.Linear(4, 4)
        self.conv = nn.Conv1d(4, 4, 3, stride=1, padding=1)

    def forward(self, x):
        assert isinstance(self.wo, nn.Linear)
        if isinstance(self.wo.weight, torch.Tensor) and x.dtype != self.wo.weight.dtype:
            x = x.to(self.wo.weight.dtype)
        x = self.wo(x)
        return self.conv(x[..., None].expand(-1, -1, 2 * self.conv.stride[0])).mean(-1)


def seeded(make, seed: int = 0):
    """Build a model from a fixed random state."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()

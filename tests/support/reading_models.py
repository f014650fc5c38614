"""Small models that read a layer's weight instead of calling the layer, each in another way."""

from __future__ import annotations

import copy

import torch
from elsewhere import project
from torch import nn
from torch.nn import functional as F


class One(nn.Module):
    """Holds one layer, and does with it what a subclass says."""

    def __init__(self):
        super().__init__()
        self.f = self.make()

    def make(self):
        return nn.Linear(4, 4)

    def expected(self, x):
        """Give what must come out once the layer is called."""
        return self.f(x)


class Positional(One):
    def forward(self, x):
        return F.linear(x, self.f.weight, self.f.bias)


class Keywords(One):
    def forward(self, x):
        return torch.nn.functional.linear(input=x, bias=self.f.bias, weight=self.f.weight)


class NoBias(One):
    def make(self):
        return nn.Linear(4, 4, bias=False)

    def forward(self, x):
        return F.linear(x, self.f.weight)


class ComputedBias(One):
    def forward(self, x):
        return F.linear(x, self.f.weight, torch.cat([self.f.bias[:2], torch.zeros(2)]))

    def expected(self, x):
        layer = copy.deepcopy(self.f)
        layer.bias.data[2:] = 0
        return layer(x)


class Product(NoBias):
    def forward(self, x):
        return x @ self.f.weight.t()


class ProductT(NoBias):
    def forward(self, x):
        return torch.matmul(x, self.f.weight.T)


class Here(One):
    def forward(self, x):
        return helper(x, self.f.weight, self.f.bias)


class There(One):
    def forward(self, x):
        return project(x, weight=self.f.weight, bias=self.f.bias)


class OtherMethod(One):
    def forward(self, x):
        return self.apply_to(x)

    def apply_to(self, x):
        return F.linear(x, self.f.weight, self.f.bias)


class LocalName(One):
    def forward(self, x):
        layer = self.f
        return F.linear(x, layer.weight, layer.bias)


class LocalWeight(One):
    def forward(self, x):
        weight, bias = self.f.weight, self.f.bias
        return F.linear(x, weight, bias)


class OtherSelf(One):
    def forward(this, x):  # noqa: N805 - it need not be called self
        return F.linear(x, this.f.weight, this.f.bias)


class Nested(One):
    def make(self):
        return nn.ModuleDict({"block": nn.Sequential(nn.Linear(4, 4))})

    def forward(self, x):
        return F.linear(x, self.f.block[0].weight, self.f.block[0].bias)

    def expected(self, x):
        return self.f["block"][0](x)


class Listed(One):
    def make(self):
        return nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

    def forward(self, x):
        x = F.linear(x, self.f[0].weight, self.f[0].bias)
        for i in range(1, 3):
            x = F.linear(x, self.f[i].weight, self.f[i].bias)
        return x

    def expected(self, x):
        for layer in self.f:
            x = layer(x)
        return x


class Looped(Listed):
    def forward(self, x):
        for layer in self.f:
            x = F.linear(x, layer.weight, layer.bias)
        return x


class Convolved(One):
    def make(self):
        return nn.Conv2d(4, 4, 3, stride=2, padding=1, dilation=1, groups=2)

    def forward(self, x):
        return F.conv2d(x, self.f.weight, self.f.bias, self.f.stride, self.f.padding, groups=self.f.groups)


class OtherGeometry(Convolved):
    def forward(self, x):
        return F.conv2d(x, self.f.weight, self.f.bias, stride=1, padding=1, groups=2)


def helper(x, weight, bias):
    return F.linear(x, weight, bias)


class Two(nn.Module):
    """Reads the weights of two layers, and a child container that of another."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.inner = nn.Linear(4, 4), nn.Linear(4, 4), Positional()

    def forward(self, x):
        x = F.linear(x, self.a.weight, self.a.bias)
        return self.inner(F.linear(x, self.b.weight, self.b.bias))

    def expected(self, x):
        return self.inner.f(self.b(self.a(x)))


class Shared(nn.Module):
    """Two containers read the weight of one layer."""

    def __init__(self):
        super().__init__()
        self.one, self.other = Positional(), Keywords()
        self.other.f = self.one.f

    def forward(self, x):
        return self.other(self.one(x))

    def expected(self, x):
        return self.one.f(self.one.f(x))


class Around(nn.Module):
    """Reads the weight of a layer, and so does the child that holds it."""

    def __init__(self):
        super().__init__()
        self.inner = Positional()

    def forward(self, x):
        return self.inner(x) + F.linear(x, self.inner.f.weight, self.inner.f.bias)

    def expected(self, x):
        return 2 * self.inner.f(x)


class CalledToo(One):
    """Calls its layer or reads its weight, as the input has it."""

    def forward(self, x):
        if x.sum() > 0:
            return self.f(x)
        return F.linear(x, self.f.weight, self.f.bias)


class CalledInTraining(One):
    """Calls its layer in training and reads its weight in evaluation."""

    def forward(self, x):
        if self.training:
            return self.f(x)
        return F.linear(x, self.f.weight, self.f.bias)


class TiedToo(One):
    """Calls another layer on the same weight, which no rule converts."""

    def __init__(self):
        super().__init__()
        self.plain = nn.Linear(4, 4)
        self.plain.weight = self.f.weight

    def forward(self, x):
        return F.linear(x, self.f.weight, self.f.bias) + self.plain(x)

    def expected(self, x):
        return self.f(x) + F.linear(x, self.plain.weight.clone(), self.plain.bias)

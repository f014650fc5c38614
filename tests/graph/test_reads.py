"""Weights that a container reads around the layer that holds them."""

import pytest
import torch
from small_models import AttributeReads, Mlp, ReadAround, SometimesReadAround, Tying
from torch import nn
from torch.nn import functional as F

from bioconvert.graph.reads import Called, Read, resolve, weights_read_around


class Indexed(nn.Module):
    """Reads the weights of a list's layers."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])

    def forward(self, x):
        for i in range(2):
            x = F.linear(x, self.layers[i].weight)
        return F.linear(x, self.layers[0].weight)


class InHelper(nn.Module):
    """Reads a weight in a method and in a property that its forward uses."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(2, 2)
        self.b = nn.Linear(2, 2)
        self.c = nn.Linear(2, 2)

    @property
    def matrix(self):
        return self.a.weight.t()

    def project(self, x):
        return torch.matmul(x, self.b.weight)

    def unused(self, x):
        return x @ self.c.weight

    def forward(self, x):
        return self.project(x @ self.matrix)


class InInit(nn.Module):
    """Only its initialisation looks at the weight's numbers."""

    def __init__(self):
        super().__init__()
        self.f = nn.Linear(2, 2)
        nn.init.zeros_(self.f.weight)

    def forward(self, x):
        return self.f(x)


class BothWays(nn.Module):
    """Calls a layer whatever happens, and reads its weight in a branch."""

    def __init__(self):
        super().__init__()
        self.f = nn.Linear(2, 2)

    def forward(self, x, extra=None):
        y = self.f(x)
        if extra is not None:
            y = y + F.linear(extra, self.f.weight)
        return y


class Inherited(SometimesReadAround):
    """Calls the forward that it inherits."""

    def forward(self, x):
        return super().forward(x) if x.sum() > 0 else x


CLASSES = [
    pytest.param(Inherited, {("qkv",): Called.SOMETIMES}, id="through super"),
    pytest.param(ReadAround, {("qkv",): Called.NEVER}, id="never called"),
    pytest.param(SometimesReadAround, {("qkv",): Called.SOMETIMES}, id="one way or the other"),
    pytest.param(Tying, {("f",): Called.ALWAYS}, id="called and read"),
    pytest.param(BothWays, {("f",): Called.ALWAYS}, id="read in a branch"),
    pytest.param(AttributeReads, {}, id="dtype and class only"),
    pytest.param(InInit, {}, id="initialisation only"),
    pytest.param(InHelper, {("a",): Called.NEVER, ("b",): Called.NEVER}, id="methods and properties"),
    pytest.param(Indexed, {("layers", "*"): Called.NEVER, ("layers", "0"): Called.NEVER}, id="indexed"),
    pytest.param(Mlp, {}, id="an ordinary model"),
    pytest.param(nn.Sequential, {}, id="Sequential"),
    pytest.param(nn.MultiheadAttention, {("out_proj",): Called.NEVER}, id="MultiheadAttention"),
]


@pytest.mark.parametrize(("cls", "expected"), CLASSES)
def test_reads_are_found_in_the_source(cls, expected):
    """Each layer whose weight is used as numbers is found, with whether it is called too."""
    assert {read.chain: read.called for read in weights_read_around(cls)} == expected


def test_the_object_may_go_by_another_name():
    """What counts is the method's first argument, whatever it is called."""

    class Other(nn.Module):
        def forward(s, x):  # noqa: N805
            return F.linear(x, weight=s.qkv.weight, bias=s.b)

    assert weights_read_around(Other) == (Read(("qkv",), Called.NEVER, passed_on=True),)


def by_name(layer, x):
    """Use a layer's weight and not the layer."""
    return F.linear(x, layer.weight)


def test_a_layer_may_be_read_by_whom_it_is_given_to():
    """A function, or a method, that is given the layer itself."""

    class Given(nn.Module):
        def forward(self, x):
            return by_name(self.a, self.go(x, layer=self.b)) + self.run(self.c, x) + self.all(x, self.d)

        def all(self, *args):
            return args[0]

        def go(self, x, layer):
            return x @ layer.weight.t()

        def run(self, layer, x):
            return layer(x)

    assert set(weights_read_around(Given)) == {
        Read(("a",), Called.SOMETIMES, passed_on=False),
        Read(("b",), Called.SOMETIMES, passed_on=False),
    }


def test_swin_reads_its_projections(torchvision):
    """torchvision's swin passes two layers' weights to a function, which passes them on to `F.linear`."""
    from torchvision.models.swin_transformer import ShiftedWindowAttention

    assert set(weights_read_around(ShiftedWindowAttention)) == {
        Read(("qkv",), Called.NEVER, passed_on=True),
        Read(("proj",), Called.NEVER, passed_on=True),
    }


def test_the_model_families_of_transformers(transformers):
    """Mamba reads around, T5 only looks at dtypes."""
    from transformers.models.mamba.modeling_mamba import MambaMixer
    from transformers.models.t5.modeling_t5 import T5DenseActDense

    reads = {read.chain: read for read in weights_read_around(MambaMixer)}
    assert reads["conv1d",] == Read(("conv1d",), Called.NEVER, passed_on=False)
    assert weights_read_around(T5DenseActDense) == ()


def test_a_class_without_source_says_nothing():
    """A class typed into a console can't be read; proof of use is what is left."""
    scope = {"nn": nn, "F": F}
    exec("class Typed(nn.Module):\n    def forward(self, x): return F.linear(x, self.f.weight)", scope)
    assert weights_read_around(scope["Typed"]) == ()


def test_chains_lead_to_modules():
    """A star stands for every child; a chain that leads nowhere gives nothing."""
    model = Indexed()
    assert resolve(model, ("layers", "1")) == [model.layers[1]]
    assert resolve(model, ("layers", "*")) == list(model.layers)
    assert resolve(model, ("nothing", "0")) == []

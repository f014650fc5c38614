"""A rewritten forward without edits: whatever is changed afterwards, it does what the original does."""

import copy
import dataclasses
import functools
from collections import OrderedDict
from math import sqrt
from types import SimpleNamespace

import pytest
import torch
from rewriting import Layer, Variadic, X, rewritten, same
from small_models import Mlp, seeded
from torch import fx, nn
from torch.nn import functional as F

from bioconvert.graph.rewrite import rewrite_of


@fx.wrap
def looks(x):
    """Look at the values of a tensor."""
    return x if x.sum() > 0 else -x


@dataclasses.dataclass
class Settings:
    act: str = "relu"
    scales: list = dataclasses.field(default_factory=lambda: [1, 2.0])


class Config:
    kind = "plain"

    def __init__(self):
        self.act = "relu"
        self.inner = SimpleNamespace(depth=2, settings=Settings())

    @property
    def name(self):
        return self.act + "!"


class Slotted:
    __slots__ = ("gain",)

    def __init__(self):
        self.gain = 2.0


class Configured(Layer):
    kind = 1.0

    def forward(self, x):
        x = self.fc(x) * self.kind
        x = F.relu(x) if self.config.act == "relu" else torch.tanh(x)
        for _ in range(self.config.inner.depth):
            x = x * self.config.inner.settings.scales[1]
        if self.config.name == "tanh!" or self.config.kind != "plain":
            x = x + 1
        return x - 3 if getattr(self.config, "shift", False) else x


class Contained(Layer):
    def forward(self, x):
        x = self.fc(x) * self.sizes[0] + self.options["scale"][1]
        return x * 2 if "double" in self.flags else x


class Objects(Layer):
    def forward(self, x):
        return self.apply(self.fc(x)) * self.slotted.gain

    def apply(self, x):
        return self.partial(x) if self.partial.keywords["negative_slope"] else self.function(x)


class Private(Layer):
    _scale = 2.0

    def forward(self, x):
        x = self.fc(x) * self._scale
        return x + 1 if hasattr(self, "shift") else x


class Stack(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.named = nn.ModuleDict({"a": nn.Linear(4, 4)})
        self.norm = nn.LayerNorm(4)

    def forward(self, x, index=0):
        for i, layer in enumerate(self.layers):
            x = layer(x) if i != index else -layer(x)
        for name, layer in self.named.items():
            x = layer(x) + len(name)
        return self.layers[index](x if self.norm is None else self.norm(x))


class Parent(Layer):
    def forward(self, x):
        return self.fc(x)


class Child(Parent):
    def forward(self, x):
        return super().forward(x) * 2 if self.training else super().forward(x)


class Stateful(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.register_buffer("steps", torch.zeros(()))
        self.scale = torch.ones(4)

    def forward(self, x):
        self.steps.add_(1)
        self.scale.mul_(2)
        return self.fc(x) * self.steps * (self.scale + 1)


class Drawing(Layer):
    def forward(self, x):
        noise = torch.rand(4) + torch.arange(4) + torch.zeros(4, dtype=self.fc.weight.dtype)
        return self.fc(x) + noise.to(x.dtype) * torch.randn(x.shape)


class Shaping(Layer):
    def forward(self, x):
        shape = (*x.shape[:-1], -1, 2)
        heads = self.fc(x).view(shape).transpose(0, 1)
        b, h, d = heads.shape
        heads = heads.reshape(b * h, d) / d**0.5
        torch._assert(x.shape[0] > 0, "no rows")
        return heads.reshape(*x.shape[:-1], -1), heads.view(h, b, -1)


@dataclasses.dataclass
class Result:
    x: torch.Tensor
    rest: list


class Returning(Layer):
    kind = "dict"

    def forward(self, x):
        x = self.fc(x)
        pairs = {"x": x, "pair": (x, [x + 1])}
        results = {
            "dict": pairs,
            "dataclass": Result(x, [x]),
            "ordered": OrderedDict(pairs),
            "none": None,
            "tuple": (x, 1),
            "generated": tuple(x * i for i in range(3)),
        }
        return results[self.kind]


def set_config(name, value, path="config"):
    """Make a change of one attribute below a module."""

    def change(module):
        for step in path.split("."):
            module = getattr(module, step)
        setattr(module, name, value)

    return change


def set_own(name, value):
    """Make a change of one attribute of a module."""
    return lambda module: setattr(module, name, value)


CHANGES = [
    pytest.param(
        lambda: Configured(config=Config()),
        [
            set_config("act", "tanh"),
            set_config("shift", True),
            set_config("depth", 3, "config.inner"),
            lambda m: m.config.inner.settings.scales.__setitem__(1, 5.0),
            set_config("kind", "fancy"),
            set_own("config", Config()),
            set_own("kind", 3.0),
        ],
        id="configuration objects",
    ),
    pytest.param(
        lambda: Contained(sizes=[1, 2], options={"scale": (1, 2)}, flags={"a"}),
        [
            lambda m: m.sizes.__setitem__(0, 7),
            lambda m: m.sizes.__setitem__(0, 7.5),
            set_own("options", {"scale": (1, 9)}),
            lambda m: m.flags.add("double"),
        ],
        id="containers",
    ),
    pytest.param(
        lambda: Objects(
            slotted=Slotted(),
            function=torch.tanh,
            partial=functools.partial(F.leaky_relu, negative_slope=0.5),
        ),
        [
            set_config("gain", 3.0, "slotted"),
            lambda m: m.partial.keywords.update(negative_slope=0.25),
            set_own("partial", functools.partial(F.leaky_relu, negative_slope=0)),
            set_own("function", torch.sigmoid),
        ],
        id="slots, functions and partials",
    ),
    pytest.param(
        Private,
        [set_own("_scale", 3.0), set_own("shift", True), lambda m: delattr(m, "shift")],
        id="private, class and absent attributes",
    ),
    pytest.param(
        Stack,
        [
            lambda m: m.layers.append(nn.Identity()),
            set_own("norm", nn.Identity()),
            set_own("norm", None),
            lambda m: m.named.update({"bb": nn.Identity()}),
        ],
        id="lists and dictionaries of modules",
    ),
    pytest.param(Child, [lambda m: m.eval(), lambda m: m.train()], id="super and the train flag"),
    pytest.param(Stateful, [lambda m: None, lambda m: m.steps.fill_(5)], id="tensors changed in place"),
    pytest.param(Drawing, [lambda m: m.double(), lambda m: m.float()], id="tensors made anew"),
    pytest.param(Shaping, [lambda m: None], id="shapes"),
    pytest.param(
        Returning,
        [set_own("kind", kind) for kind in ("dataclass", "ordered", "none", "tuple", "generated")],
        id="what is returned",
    ),
]


@pytest.mark.parametrize(("make", "changes"), CHANGES)
def test_what_changes_later_takes_effect(make, changes):
    """Each change made after the rewrite has the effect that it has on the original."""
    original = seeded(make)
    module = rewritten(original)
    for change in (lambda m: None, *changes):
        for each in (original, module):
            change(each)
        x = X.to(original.fc.weight.dtype) if hasattr(original, "fc") else X
        for _ in range(2):
            outputs = []
            for each in (original, module):
                torch.manual_seed(0)
                outputs.append(each(x))
            assert same(*outputs)


class TestCompiling:
    def test_guards_and_extra_arguments_compile_in_one_graph(self):
        """`torch.compile(fullgraph=True)` looks through the guards of a configuration object."""
        module = rewritten(seeded(lambda: Configured(config=Config())))
        expected = module(X)
        assert torch.equal(torch.compile(module, fullgraph=True, backend="eager")(X), expected)
        module.config.act = "tanh"
        expected = module(X)
        assert torch.equal(torch.compile(module, fullgraph=True, backend="eager")(X), expected)
        variadic = rewritten(seeded(Variadic))
        expected = variadic(X, X, bias=X)
        assert torch.equal(torch.compile(variadic, fullgraph=True, backend="eager")(X, X, bias=X), expected)

    def test_containers_and_lists_of_modules_compile(self):
        """Guards that compare containers and child names are looked through."""
        contained = rewritten(seeded(lambda: Contained(sizes=[1, 2], options={"scale": (1, 2)}, flags={"a"})))
        for module in (contained, rewritten(seeded(Stack)), rewritten(seeded(Shaping))):
            compiled = torch.compile(module, fullgraph=True, backend="eager")
            assert same(compiled(X), module(X))

    @pytest.mark.parametrize("strict", [True, False])
    def test_it_exports(self, strict):
        """`torch.export` takes it, strict or not."""
        module = rewritten(seeded(lambda: Configured(config=Config()))).eval()
        exported = torch.export.export(module, (X,), strict=strict).module()
        assert torch.allclose(exported(X), module(X))


def test_what_cannot_be_traced_any_more_runs_as_it_is():
    """A flag that leads to an untraceable branch: the container's own forward runs, nothing raises."""

    class Choosing(Layer):
        def forward(self, x):
            if self.choose:
                return self.fc(x) if x.sum() > 0 else x
            return self.fc(x)

    module = rewritten(Choosing(choose=False))
    module.choose = True
    for x in (X.abs(), -X.abs()):
        assert torch.equal(module(x), module.fc(x) if x.sum() > 0 else x)


def test_forwards_made_for_calls_are_bounded():
    """An argument with ever new values doesn't fill the memory."""
    module = rewritten(seeded(Variadic))
    for i in range(100):
        module(X, scale=float(i))
    assert len(rewrite_of(type(module))._variants) <= 64
    assert torch.equal(module(X), module.fc(X))


def test_wrapped_and_imported_functions_stay_calls():
    """What `torch.fx.wrap` marked, and what a module imported from math, is called when the graph runs."""

    class Wrapping(Layer):
        def forward(self, x):
            return looks(self.fc(x)) / sqrt(x.shape[-1])

    original = seeded(Wrapping)
    module = rewritten(original)
    for x in (X, -X):
        assert torch.equal(module(x), original(x))


def test_a_copy_has_guards_of_its_own():
    """A flag of the copy's configuration changes the copy alone."""
    module = rewritten(seeded(lambda: Configured(config=Config())))
    twin = copy.deepcopy(module)
    expected = module(X)
    twin.config.act = "tanh"
    assert torch.equal(module(X), expected)
    assert not torch.equal(twin(X), expected)


def test_two_modules_of_a_class_are_apart():
    """Rewriting one instance leaves the class alone."""
    rewritten(Mlp())
    assert "bioconvert" not in repr(vars(Mlp))

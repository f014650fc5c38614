"""Calls of functions on a module's own parameters become layers that work with these."""

import copy
import pickle

import pytest
import torch
from small_models import seeded
from torch import nn
from torch.nn import functional as F

import bioconvert as bc
from bioconvert.functional import yat_conv2d, yat_linear
from bioconvert.layers import YatConv2d, YatLinear

ROWS = torch.linspace(-1, 1, 12).view(3, 4)
IMAGES = torch.linspace(-1, 1, 2 * 4 * 8 * 8).view(2, 4, 8, 8)


class Raw(nn.Module):
    """Computes a linear map from parameters of its own."""

    def __init__(self):
        super().__init__()
        self.w, self.b = nn.Parameter(torch.randn(5, 4)), nn.Parameter(torch.randn(5))
        self.head = nn.Linear(5, 2)

    def forward(self, x):
        return self.head(F.linear(x, self.w, bias=self.b))


class Product(nn.Module):
    """Multiplies by a parameter of [features, units]."""

    def __init__(self):
        super().__init__()
        self.w, self.scale = nn.Parameter(torch.randn(4, 5)), nn.Parameter(torch.ones(5))

    def forward(self, x):
        return x @ self.w * self.scale


class RawConv(nn.Module):
    """Convolves with a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(6, 2, 3, 3))

    def forward(self, x):
        return F.conv2d(x, self.kernel, None, 2, padding=1, groups=2)


class Branches(Raw):
    """Looks at values, so that only a run shows what it does."""

    def forward(self, x):
        return super().forward(x) if x.sum() > -1e9 else x


class Experts(nn.Module):
    """Holds its experts' weights in one parameter of three dimensions."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(2, 4, 4))

    def forward(self, x):
        return torch.matmul(x, self.w)


def rules(match, name="YatLinear", **replace):
    return {"version": 1, "rules": [{"match": match, "replace": {"with": name, **replace}}]}


AUTO = {"epsilon": 1e-5, "floor": 1e-5}


def expected_raw(model, x):
    own = model.w_layer
    return model.head(yat_linear(x, model.w, model.b, alpha=own.alpha, **AUTO))


def expected_product(model, x):
    return yat_linear(x, model.w.t(), alpha=model.w_layer.alpha, **AUTO) * model.scale


def expected_conv(model, x):
    geometry = {"stride": 2, "padding": 1, "groups": 2}
    return yat_conv2d(x, model.kernel, alpha=model.kernel_layer.alpha, **geometry, **AUTO)


MATMUL = {"type": "torch.matmul", "parameter": "w"}
CONV = {"type": "torch.nn.functional.conv2d"}
CASES = [
    pytest.param(Raw, ROWS, {"type": "F.linear"}, "YatLinear", "w", expected_raw, id="F.linear"),
    pytest.param(Raw, ROWS, {"parameter": "w"}, "YatLinear", "w", expected_raw, id="parameter"),
    pytest.param(
        Product,
        ROWS,
        {"type": "torch.matmul", "parameter": "w"},
        "YatLinear",
        "w",
        expected_product,
        id="matmul",
    ),
    pytest.param(
        RawConv,
        IMAGES,
        {"type": "torch.nn.functional.conv2d"},
        "YatConv2d",
        "kernel",
        expected_conv,
        id="conv2d",
    ),
]


@pytest.mark.parametrize(("make", "x", "match", "name", "parameter", "expected"), CASES)
class TestEveryFunction:
    def test_the_layer_answers_for_the_call(self, make, x, match, name, parameter, expected):
        """The output is the layer's on the module's own parameter, and every parameter gets a gradient."""
        model = seeded(make)
        held = model._parameters[parameter]
        report = bc.plan(model, rules(match, name), example_inputs=(x,)).apply()
        assert [entry.path for entry in report.applied] == [parameter]
        assert report.skipped == ()
        assert model._parameters[parameter] is held
        assert torch.allclose(model(x), expected(model, x), atol=1e-6)
        model(x).square().sum().backward()
        assert all(p.grad is not None for p in model.parameters())

    def test_names_stay(self, make, x, match, name, parameter, expected):
        """The module's own keys are as they were; the layer adds what it brings with it."""
        model = seeded(make)
        before = list(model.state_dict())
        bc.convert(model, rules(match, name))
        assert set(model.state_dict()) - set(before) == {f"{parameter}_layer.alpha"}
        model.load_state_dict(seeded(make, 1).state_dict())

    def test_reverting_leaves_no_trace(self, make, x, match, name, parameter, expected):
        """Class, children and outputs are as before."""
        model, original = seeded(make), seeded(make)
        bc.revert(bc.convert(model, rules(match, name), example_inputs=(x,)))
        assert type(model) is make
        assert list(model._modules) == list(original._modules)
        assert torch.equal(model(x), original(x))

    def test_copies_and_files(self, make, x, match, name, parameter, expected, tmp_path):
        """deepcopy, pickle and save/load keep the layer and give the same outputs."""
        model = bc.convert(seeded(make), rules(match, name))
        model._modules[f"{parameter}_layer"].alpha.data.fill_(1.5)
        bc.save(model, tmp_path / "out")
        twins = (
            copy.deepcopy(model),
            pickle.loads(pickle.dumps(model)),
            bc.load(tmp_path / "out", factory=make),
        )
        for twin in twins:
            assert torch.equal(twin(x), model(x))
            assert type(bc.revert(twin)) is make

    def test_the_optimizer_follows(self, make, x, match, name, parameter, expected):
        """What the layer brings joins the group of the parameter."""
        model = seeded(make)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        bc.convert(model, rules(match, name), optimizer=optimizer)
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        assert held == {id(p) for p in model.parameters()}
        bc.revert(model, optimizer=optimizer)
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        assert held == {id(p) for p in model.parameters()}

    def test_converting_twice_is_converting_once(self, make, x, match, name, parameter, expected):
        """The second time it is skipped, with the reason."""
        model = bc.convert(seeded(make), rules(match, name))
        report = bc.plan(model, rules(match, name)).apply()
        assert report.applied == ()
        assert "works with it already" in report.skipped[0].reason

    @pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects")
    def test_compile_and_export(self, make, x, match, name, parameter, expected):
        """One graph, in which the layer answers."""
        model = bc.convert(seeded(make), rules(match, name))
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        assert torch.allclose(compiled(x), model(x), atol=1e-6)
        for strict in (False, True):
            program = torch.export.export(model, (x,), strict=strict)
            assert torch.allclose(program.module()(x), model(x), atol=1e-6)


class TestWhatIsSelected:
    def test_layers_are_no_calls(self):
        """`F.linear` means calls on a module's own parameters, not the Linear layers, whose forward it is."""
        model = seeded(Raw)
        report = bc.plan(model, rules({"type": "F.linear"})).apply()
        assert [entry.path for entry in report.applied] == ["w"]
        assert type(model.head) is nn.Linear

    def test_both_at_once(self):
        """A rule may name layers and functions together."""
        model = bc.convert(seeded(Raw), rules({"type": ["linear", "F.linear"]}))
        assert isinstance(model.head, YatLinear)
        assert isinstance(model.w_layer, YatLinear)

    def test_a_run_shows_what_a_trace_cannot(self):
        """Without a trace, example inputs tell how the parameter is used; without both, nothing matches."""
        with pytest.raises(bc.RuleError, match=r"no call of 'F.linear' on a module's own parameter"):
            bc.plan(Branches(), rules({"type": "F.linear"}))
        model = seeded(Branches)
        bc.convert(model, rules({"type": "F.linear"}), example_inputs=(ROWS,))
        assert torch.allclose(model(ROWS), expected_raw(model, ROWS), atol=1e-6)

    @pytest.mark.parametrize(
        ("make", "match", "reason"),
        [
            (Experts, {"parameter": "w"}, "2 × 4 × 4 is no linear layer's weight"),
            (Product, {"parameter": "scale"}, "no call of a function that YatLinear could stand for"),
            (Raw, {"parameter": "head.weight"}, "no call of a function that YatLinear could stand for"),
        ],
    )
    def test_what_is_no_weight_is_left_alone(self, make, match, reason):
        """Where a replacement has no meaning, the reason says so."""
        plan = bc.plan(make(), rules(match))
        assert plan.applied == ()
        assert reason in plan.skipped[0].reason

    def test_a_conv_needs_a_conv(self):
        """A replacement for linear maps can't stand for a convolution."""
        assert "can't replace a Conv2d" in bc.plan(RawConv(), rules({"parameter": "*"})).skipped[0].reason
        assert isinstance(
            bc.convert(RawConv(), rules({"parameter": "*"}, "YatConv2d")).kernel_layer, YatConv2d
        )

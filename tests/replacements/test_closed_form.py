"""Fitting a Yat layer to a trained layer and its activation."""

import math

import pytest
import torch
from small_models import seeded
from torch import nn
from torch.nn import functional as F

import bioconvert as bc
from bioconvert.core.change import Activation, Site
from bioconvert.replacements.closed_form import affine_of, hermite
from bioconvert.replacements.linear_map import squared_norms


def normal(m: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Give the standard normal density and distribution."""
    return torch.exp(-m.square() / 2) / math.sqrt(2 * math.pi), 0.5 * (1 + torch.erf(m / math.sqrt(2)))


class TestHermite:
    def test_relu_has_its_closed_form(self):
        """The quadrature agrees with σΦ(m), σφ(m)/2 and μΦ(m) + σφ(m)."""
        mean = torch.linspace(-3, 3, 13, dtype=torch.float64)
        deviation = torch.full_like(mean, 1.7)
        density, distribution = normal(mean / deviation)
        a0, a1, a2 = hermite(F.relu, mean, deviation)
        assert torch.allclose(a0, mean * distribution + deviation * density, atol=1e-3)
        assert torch.allclose(a1, deviation * distribution, atol=1e-3)
        assert torch.allclose(a2, deviation * density / 2, atol=1e-3)

    def test_a_quadratic_is_its_own_expansion(self):
        """For f(z) = z², a₀ = μ² + σ², a₁ = 2μσ, a₂ = σ²."""
        mean = torch.tensor([0.5, -1.0], dtype=torch.float64)
        deviation = torch.tensor([1.0, 2.0], dtype=torch.float64)
        a0, a1, a2 = hermite(torch.square, mean, deviation)
        assert torch.allclose(a0, mean.square() + deviation.square(), rtol=1e-4)
        assert torch.allclose(a1, 2 * mean * deviation, rtol=1e-4)
        assert torch.allclose(a2, deviation.square(), rtol=1e-4)

    def test_far_from_the_bend_a_line_is_met_in_its_mean(self):
        """A unit that is always on, or always off, keeps its mean and a finite curvature."""
        mean = torch.tensor([50.0, -50.0], dtype=torch.float64)
        a0, a1, a2 = hermite(F.relu, mean, torch.ones(2, dtype=torch.float64))
        assert torch.allclose(a0, torch.tensor([50.0, 0.0], dtype=torch.float64), atol=1e-3)
        assert (a2.abs() > 0).all()
        assert a1[1].abs() < 1e-3

    def test_an_odd_function_gets_a_curvature(self):
        """Where the curvature vanishes, as tanh's at 0, it has a floor: nothing is divided by zero."""
        _, a1, a2 = hermite(
            torch.tanh, torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
        )
        assert torch.isfinite(a1 / a2).all()


NORMS = [
    pytest.param(lambda: nn.BatchNorm1d(6), id="affine"),
    pytest.param(lambda: nn.BatchNorm1d(6, affine=False), id="not affine"),
]


@pytest.mark.parametrize("make", NORMS)
def test_a_norm_in_evaluation_is_affine(make):
    """Slope and shift reproduce the module."""
    norm = make()
    norm(torch.randn(64, 6) * 3 + 1)
    if norm.weight is not None:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    norm.eval()
    x = torch.randn(5, 6)
    slope, shift = affine_of(norm, torch.zeros(6, dtype=torch.float64))
    assert torch.allclose(norm(x).double(), x * slope + shift, atol=1e-5)


CONVS = [
    pytest.param(lambda: nn.Conv2d(4, 6, 3, padding=1), id="padded"),
    pytest.param(lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular", stride=2), id="circular"),
    pytest.param(lambda: nn.Conv2d(4, 6, 3, dilation=2, padding="same"), id="dilated"),
]


@pytest.mark.parametrize("make", CONVS)
def test_squared_norms_of_patches(make):
    """‖x‖² of a patch is the sum of squares that the convolution sees."""
    layer = make()
    x = torch.randn(2, 4, 9, 9)
    with torch.no_grad():
        expected = F.conv2d(x.square(), torch.ones(1, 4, 3, 3), None, layer.stride, 0, layer.dilation)
    inner = squared_norms(layer, x).view_as(layer(x)[:, 0])
    if layer.padding == (1, 1) and layer.stride == (1, 1):
        assert torch.allclose(inner[:, 1:-1, 1:-1], expected[:, 0], atol=1e-4)


def fidelity(original, converted, x):
    """Give R² of the converted model's outputs."""
    with torch.no_grad():
        y, z = original.eval()(x), converted.eval()(x)
    return 1 - float((y - z).square().sum() / (y - y.mean(0)).square().sum())


class Plain(nn.Sequential):
    def __init__(self, activation):
        super().__init__(nn.Linear(32, 48), activation, nn.Linear(48, 4))


class Normed(nn.Sequential):
    def __init__(self, activation):
        super().__init__(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), activation, nn.Flatten(), nn.Linear(8 * 36, 4)
        )


MODELS = [
    pytest.param(Plain, nn.ReLU, (256, 32), 0.95, id="Linear-ReLU"),
    pytest.param(Plain, nn.GELU, (256, 32), 0.95, id="Linear-GELU"),
    pytest.param(Plain, nn.SiLU, (256, 32), 0.95, id="Linear-SiLU"),
    pytest.param(Plain, nn.Sigmoid, (256, 32), 0.75, id="Linear-Sigmoid"),
    pytest.param(Normed, nn.ReLU, (64, 3, 6, 6), 0.9, id="Conv-BN-ReLU"),
]


@pytest.mark.parametrize(("cls", "activation", "shape", "least"), MODELS)
@pytest.mark.parametrize("dropped", [True, False])
class TestFidelity:
    def test_fits_far_better_than_a_copy(self, cls, activation, shape, least, dropped):
        """The fitted layer stands in for layer and activation at once; a plain copy doesn't."""
        if not dropped and activation is not nn.ReLU:
            pytest.skip(
                "an activation that stays is imitated only where applying it twice is applying it once"
            )
        torch.manual_seed(0)
        x = torch.randn(shape)

        def make():
            model = cls(activation())
            model.train()(x)
            return model

        rule = {
            "match": {"type": ["linear", "conv"], "path": "0", "followed_by": ["norm?", activation.__name__]},
            "replace": {
                "with": "YatLinear" if cls is Plain else "YatConv2d",
                "activation": "drop" if dropped else "keep",
            },
        }
        fitted = bc.convert(seeded(make), {"version": 1, "rules": [rule]}, example_inputs=(x,))
        rule["replace"]["init"] = "keep"
        copied = bc.convert(seeded(make), {"version": 1, "rules": [rule]}, example_inputs=(x,))
        held_out = torch.randn(shape)
        original = seeded(make)
        assert fidelity(original, fitted, held_out) >= least
        assert fidelity(original, fitted, held_out) > fidelity(original, copied, held_out) + 0.1


REFUSALS = [
    pytest.param({}, None, "no sample data", id="no data"),
    pytest.param({"epsilon": 0.1}, (torch.ones(4, 8),), "`epsilon: 0.1`", id="a fixed epsilon"),
    pytest.param({"bias_mode": "post"}, (torch.ones(4, 8),), "`bias_mode: post`", id="bias behind"),
    pytest.param({"spherical": True}, (torch.ones(4, 8),), "plain layer", id="spherical"),
]


@pytest.mark.parametrize(("options", "inputs", "reason"), REFUSALS)
def test_what_stands_in_the_way_is_said(options, inputs, reason):
    """Asked for outright, a closed form that can't be had is a skip with the reason."""
    model = nn.Sequential(nn.Linear(8, 4), nn.ReLU())
    rule = {"match": {"path": "0"}, "replace": {"with": "YatLinear", "init": "closed_form", **options}}
    plan = bc.plan(model, {"version": 1, "rules": [rule]}, example_inputs=inputs)
    assert plan.applied == ()
    assert reason in plan.skipped[0].reason


def test_a_dead_unit_is_no_obstacle():
    """A unit that never varies, or whose norm has no slope, gives finite values."""
    model = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.ReLU())
    with torch.no_grad():
        model[0].weight[0] = 0
        model[1].weight[1] = 0
    rule = {
        "match": {"path": "0", "followed_by": ["BatchNorm1d", "ReLU"]},
        "replace": {"with": "YatLinear", "activation": "drop"},
    }
    x = torch.randn(16, 8)
    bc.convert(model, {"version": 1, "rules": [rule]}, example_inputs=(x,))
    assert all(bool(p.isfinite().all()) for p in model.parameters())
    assert model(x).isfinite().all()


def test_calibration_batches_are_used():
    """The layer is fitted to all batches: one large batch or many small ones give the same."""
    x = torch.randn(64, 8)

    def make():
        return nn.Sequential(nn.Linear(8, 4), nn.ReLU())

    whole = bc.convert(seeded(make), "yat-all", calibration=[x])
    parts = bc.convert(seeded(make), "yat-all", calibration=[(part,) for part in x.split(16)])
    assert torch.allclose(whole[0].alpha, parts[0].alpha, rtol=1e-4)
    assert torch.allclose(whole[0].epsilon, parts[0].epsilon, rtol=1e-5)


def test_epsilon_is_relative_to_the_inputs():
    """A layer that is kept as it is, too, gets ε = 0.1·E‖x‖² where data is given, exactly 1e-5 without."""
    x = torch.randn(64, 8)
    rule = {"match": {"path": "0"}, "replace": {"with": "YatLinear", "init": "keep"}}
    rules = {"version": 1, "rules": [rule]}
    measured = bc.convert(nn.Sequential(nn.Linear(8, 4)), rules, example_inputs=(x,))
    assert torch.allclose(measured[0].epsilon, 0.1 * x.square().sum(1).mean(), rtol=1e-5)
    assert bc.convert(nn.Sequential(nn.Linear(8, 4)), rules)[0].epsilon == 1e-5


def test_inputs_that_are_all_zero_say_nothing():
    """Behind a gate that is still closed, a layer keeps the epsilon that it has without data."""
    rule = {"match": {"path": "0"}, "replace": {"with": "YatLinear", "init": "keep"}}
    model = nn.Sequential(nn.Linear(8, 4))
    bc.convert(model, {"version": 1, "rules": [rule]}, example_inputs=(torch.zeros(3, 8),))
    assert model[0].epsilon.item() == pytest.approx(1e-5)


def test_revert_brings_the_bias_back():
    """The fit overwrites the bias; revert gives its old values back, and takes a new one away."""
    for bias in (True, False):
        model = nn.Sequential(nn.Linear(8, 4, bias=bias), nn.ReLU())
        before = {k: v.clone() for k, v in model.state_dict().items()}
        bc.convert(model, "yat-all", example_inputs=(torch.randn(16, 8),))
        assert model[0].bias is not None
        bc.revert(model)
        after = model.state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(before[k], after[k]) for k in before)


def test_the_site_carries_the_activation_itself():
    """A slope of its own is imitated: LeakyReLU(0.5) isn't fitted as LeakyReLU(0.01)."""
    site = Site("0", Activation("LeakyReLU", nn.LeakyReLU(0.5)))
    a0, _, _ = hermite(
        site.activation.apply, torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    )
    density, _ = normal(torch.zeros(1, dtype=torch.float64))
    assert torch.allclose(a0, density * 0.5, atol=1e-3)

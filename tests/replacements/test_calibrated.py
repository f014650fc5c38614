"""Fitting Yat layers to samples, each in the network that those before it have become."""

import pytest
import torch
from small_models import seeded
from torch import nn

import bioconvert as bc
from bioconvert.core.change import Activation, Site
from bioconvert.replacements.calibrated import Calibrated, row_indices
from bioconvert.replacements.linear_map import mapped, products, rows_of, squared_norms, weight_norms


def rule(init="calibrate", drop=True, followed_by=(), types=("linear", "conv"), **options):
    """Give rules that replace the first layer; in a chain, those before an activation."""
    match = {"type": list(types)}
    if followed_by:
        match["followed_by"] = list(followed_by)
    dropped = {"activation": "drop"} if drop and followed_by else {}
    replaced = {
        "Linear": "YatLinear",
        "Conv1d": "YatConv1d",
        "Conv2d": "YatConv2d",
        "ConvTranspose2d": "YatConvTranspose2d",
    }
    rules = [
        {
            "match": {**match, "type": [kind]},
            "replace": {"with": into, "init": init, **dropped, **options},
            "optional": True,
        }
        for kind, into in replaced.items()
    ]
    return {"version": 1, "rules": rules}


def determination(wanted, given):
    """Give R², of each unit alone, and then the mean."""
    wanted, given = wanted.flatten(0, -2), given.flatten(0, -2)
    left = (wanted - given).square().sum(0)
    return float((1 - left / (wanted - wanted.mean(0)).square().sum(0).clamp_min(1e-9)).mean())


LAYERS = [
    pytest.param(lambda: nn.Linear(16, 12), (512, 16), id="Linear"),
    pytest.param(lambda: nn.Linear(16, 12, bias=False), (64, 8, 16), id="Linear, sequences, no bias"),
    pytest.param(lambda: nn.Conv1d(6, 12, 3, padding=1), (64, 6, 12), id="Conv1d"),
    pytest.param(lambda: nn.Conv2d(6, 12, 3, padding=1, groups=2), (32, 6, 8, 8), id="Conv2d, grouped"),
    pytest.param(lambda: nn.ConvTranspose2d(6, 12, 3, stride=2), (32, 6, 5, 5), id="ConvTranspose2d"),
]
ACTIVATIONS = [
    pytest.param(nn.ReLU, 0.93, id="ReLU"),
    pytest.param(nn.GELU, 0.93, id="GELU"),
    pytest.param(nn.SiLU, 0.95, id="SiLU"),
    pytest.param(nn.Sigmoid, 0.95, id="Sigmoid"),
    pytest.param(nn.Tanh, 0.9, id="Tanh"),
    pytest.param(nn.Identity, 0.97, id="none"),
]


def channels_last(y, layer):
    return y if isinstance(layer, nn.Linear) else y.movedim(1, -1)


@pytest.mark.parametrize(("make", "shape"), LAYERS)
@pytest.mark.parametrize(("activation", "least"), ACTIVATIONS)
def test_follows_layer_and_activation(make, shape, activation, least):
    """On inputs that it wasn't fitted to, each unit follows what layer and activation gave together."""
    torch.manual_seed(0)
    model = nn.Sequential(make(), activation())
    x, held_out = torch.randn(shape), torch.randn(shape)
    wanted = channels_last(model(held_out).detach(), model[0])
    followed = () if activation is nn.Identity else (activation.__name__,)
    bc.convert(model, rule(followed_by=followed), calibration=[x], example_inputs=(x,))
    assert type(model[0]).__name__.startswith("Yat")
    assert determination(wanted, channels_last(model(held_out).detach(), model[0])) >= least


NORMED = [
    pytest.param("keep", id="a norm stays"),
    pytest.param("drop", id="a norm goes"),
    pytest.param("fold", id="a norm is folded"),
]


@pytest.mark.parametrize("norm", NORMED)
def test_takes_the_norm_into_account(norm):
    """Whatever becomes of the normalisation in between, the block gives what it gave."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    nn.init.uniform_(model[1].weight, -1.5, 1.5)
    nn.init.uniform_(model[1].bias, -1, 1)
    model.train()(torch.randn(64, 3, 8, 8) * 2 + 1)
    model.eval()
    x, held_out = torch.randn(64, 3, 8, 8), torch.randn(64, 3, 8, 8)
    wanted = model(held_out).detach().movedim(1, -1)
    bc.convert(model, rule(followed_by=("BatchNorm2d", "ReLU"), norm=norm), calibration=[x])
    assert determination(wanted, model(held_out).detach().movedim(1, -1)) >= 0.87


def test_beats_the_closed_form():
    """Fitted to samples, a network of four hidden layers is nearer the original than fitted to moments."""

    def make():
        torch.manual_seed(0)
        hidden = [part for _ in range(4) for part in (nn.Linear(24, 24), nn.ReLU())]
        return nn.Sequential(*hidden, nn.Linear(24, 3))

    x, held_out = torch.randn(256, 24), torch.randn(256, 24)
    left = {}
    for init in ("calibrate", "closed_form", "keep"):
        model = bc.convert(make(), rule(init, followed_by=("ReLU",)), calibration=[x])
        left[init] = float((model(held_out) - make()(held_out)).detach().square().mean())
    assert left["calibrate"] < 0.7 * left["closed_form"]
    assert left["calibrate"] < 0.1 * left["keep"]


def test_refinement_helps_and_never_hurts():
    """Gradient steps on vertex and ε leave each unit no worse on the samples."""
    torch.manual_seed(0)
    layer, x = nn.Linear(16, 32), torch.randn(256, 16)
    left = []
    for steps in (0, 30):
        site = Site("0", Activation("Tanh", torch.tanh), activation_dropped=True, data="calibration")
        fit = Calibrated(site, 1e-5, 1e-5, steps)
        with torch.no_grad():
            wanted = fit.target(layer, layer(x))
            fit.observe(layer, x, wanted)
            found = fit.solve(layer)
            z, distance = x @ layer.weight.t(), torch.cdist(x, layer.weight).square()
            y = (
                found["alpha"] * (z + found["bias"]).square() / (distance + found["epsilon"])
                + found["offset"]
            )
        left.append((y - wanted).square().mean(0))
    assert (left[1] <= left[0] * (1 + 1e-3) + 1e-7).all()
    assert left[1].sum() < left[0].sum()


class TestAffine:
    def test_is_the_layer_it_was(self):
        """Outputs agree to a thousandth of their spread, and a warning says what it is."""
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(16, 12), nn.GELU())
        x = torch.randn(256, 16)
        before = model(x).detach()
        plan = bc.plan(model, rule("affine"), example_inputs=(x,))
        assert any("disguise" in warning for warning in plan.warnings)
        plan.apply()
        assert (model(x) - before).abs().max() < 3e-3 * before.std()

    def test_does_not_stand_for_an_activation(self):
        """An activation that would go is a reason to refuse."""
        model = nn.Sequential(nn.Linear(16, 12), nn.GELU())
        plan = bc.plan(model, rule("affine", followed_by=("GELU",)), example_inputs=(torch.randn(4, 16),))
        assert "straight line" in plan.skipped[0].reason


class TestFresh:
    def test_outputs_vary_as_they_should(self):
        """On the sample data each unit has zero mean and unit variance, layer behind layer."""
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(16, 12), nn.Linear(12, 20), nn.Linear(20, 8))
        x = torch.randn(512, 16)
        bc.convert(model, rule("fresh"), calibration=[x])
        for layer in model:
            x = layer(x)
            assert x.mean(0).abs().max() < 1e-3
            assert (x.std(0) - 1).abs().max() < 1e-2

    def test_is_a_function_of_the_seed(self):
        """The same seed gives the same weights; another gives others; with and without data alike."""
        for data in ({}, {"calibration": [torch.ones(4, 8), torch.zeros(4, 8)]}):
            drawn = [
                bc.convert(seeded(lambda: nn.Sequential(nn.Linear(8, 4))), rule("fresh"), seed=seed, **data)
                for seed in (1, 1, 2)
            ]
            assert torch.equal(drawn[0][0].weight, drawn[1][0].weight)
            assert not torch.equal(drawn[0][0].weight, drawn[2][0].weight)

    def test_without_data_is_what_the_constructor_does(self):
        """Xavier normal weights and a bias within 1/√fan in."""
        model = nn.Sequential(nn.Linear(400, 600))
        bc.convert(model, rule("fresh"))
        assert model[0].weight.std().item() == pytest.approx((2 / 1000) ** 0.5, rel=0.01)
        assert model[0].bias.abs().max() <= 1 / 20
        assert model[0].bias.std().item() == pytest.approx(1 / 20 / 3**0.5, rel=0.1)

    def test_warns_and_is_undone(self):
        """The plan says that training is lost; revert brings it back bit for bit."""
        model = nn.Sequential(nn.Linear(8, 4))
        before = {name: value.clone() for name, value in model.state_dict().items()}
        plan = bc.plan(model, rule("fresh"), calibration=[torch.randn(16, 8)])
        assert any("lost" in warning for warning in plan.warnings)
        plan.apply()
        bc.revert(model)
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


class TestWhatIsChosen:
    def test_calibration_with_calibration(self):
        """`init: auto` calibrates on a calibration set and takes the closed form for an example."""

        def summary(**data):
            model = nn.Sequential(nn.Linear(8, 4), nn.ReLU())
            return bc.plan(model, rule("auto", followed_by=("ReLU",)), **data).applied[0].reason

        x = torch.randn(8, 8)
        assert "calibrated on samples" in summary(calibration=[x])
        assert "fitted to its old outputs" in summary(example_inputs=(x,))
        assert "fitted" not in summary()

    def test_signed_outputs_come_with_a_warning(self):
        """A layer without an activation is fitted to its own outputs; the plan says what that is worth."""
        plan = bc.plan(nn.Sequential(nn.Linear(8, 4)), rule("auto"), calibration=[torch.randn(8, 8)])
        assert any("signed" in warning for warning in plan.warnings)

    def test_an_activation_that_stays_is_left_its_work(self):
        """Before a GELU that stays, the layer imitates itself alone; before a ReLU, both."""
        torch.manual_seed(0)
        for activation in (nn.GELU(), nn.ReLU()):
            model = nn.Sequential(nn.Linear(16, 12), activation)
            x, held_out = torch.randn(512, 16), torch.randn(512, 16)
            wanted = model(held_out).detach()
            bc.convert(model, rule("calibrate"), calibration=[x])
            assert determination(wanted, model(held_out).detach()) >= 0.93


def test_dead_and_constant_units():
    """A unit that never varies gives its constant, and nothing is divided by zero."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 4), nn.ReLU())
    with torch.no_grad():
        model[0].weight[0] = 0
        model[0].bias[0] = 2.5
        model[0].bias[1] = -100.0
    x = torch.randn(64, 8)
    bc.convert(model, rule(followed_by=("ReLU",)), calibration=[x])
    y = model(x)
    assert y.isfinite().all()
    assert torch.allclose(y[:, 0], torch.full((64,), 2.5), atol=1e-3)
    assert torch.allclose(y[:, 1], torch.zeros(64), atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_types(dtype):
    """A layer of another type is fitted in fp32 and keeps its type."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 12), nn.ReLU()).to(dtype)
    x = torch.randn(256, 16).to(dtype)
    wanted = model(x).detach().float()
    bc.convert(model, rule(followed_by=("ReLU",)), calibration=[x])
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert determination(wanted, model(x).detach().float()) >= 0.9


@pytest.mark.parametrize(("make", "shape"), LAYERS)
class TestLinearMaps:
    def test_distances_are_those_of_the_yat_layer(self, make, shape):
        """‖x‖², ‖w‖² and products give the layer's own denominator."""
        torch.manual_seed(0)
        layer, x = make(), torch.randn(shape)
        into = getattr(bc.layers, f"Yat{type(layer).__name__}")
        with torch.no_grad():
            product = products(layer, x) - (0 if layer.bias is None else layer.bias)
            distance = squared_norms(layer, x) + weight_norms(layer, x) - 2 * product
            expected = product.square() / (distance + 1.0)
            yat = bc.convert(
                nn.Sequential(layer), rule("keep", alpha="none", epsilon=1.0, types=("linear", "conv"))
            )[0]
            assert type(yat) is into
            if yat.bias is not None:
                yat.bias.zero_()
            given = channels_last(yat(x), layer).flatten(0, -2)
        assert torch.allclose(given, expected, rtol=1e-3, atol=1e-5)

    def test_another_weight_can_take_the_place(self, make, shape):
        """With its own weight, the map gives the layer's output without the bias; rows are by unit."""
        torch.manual_seed(0)
        layer, x = make(), torch.randn(shape)
        bias = 0 if layer.bias is None else layer.bias.view(-1, *[1] * (0 if x.dim() < 3 else x.dim() - 2))
        bias = bias if not isinstance(layer, nn.Linear) else (0 if layer.bias is None else layer.bias)
        assert torch.allclose(mapped(layer, x, layer.weight), layer(x) - bias, atol=1e-5)
        assert rows_of(layer).shape[0] == 12


def test_the_same_rows_are_chosen_again():
    """Of many positions a fixed share is used, no position twice, and the same ones each time."""
    chosen = row_indices(100_000, 64)
    assert torch.equal(chosen, row_indices(100_000, 64))
    assert chosen.numel() == chosen.unique().numel() == 16 * 64
    assert torch.equal(row_indices(200, 4), torch.arange(200))

"""Convolutions of every geometry, converted, agree with the formula on patches that are unfolded."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import seeded
from torch import nn
from torch.nn import functional as F

import bioconvert as bc

EPSILON = 1e-3
SIZES = {1: (2, 4, 9), 2: (2, 4, 7, 8), 3: (1, 4, 5, 6, 5)}
CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
MODES = ("zeros", "reflect", "replicate", "circular")


def rules(dims, **options):
    rule = {"match": {"type": "conv"}, "replace": {"with": f"YatConv{dims}d", **options}}
    return {"version": 1, "rules": [rule]}


def pads(layer):
    """Give the padding before and after each dimension, which ``"same"`` splits unevenly."""
    if layer.padding == "same":
        totals = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    if layer.padding == "valid":
        return [(0, 0)] * len(layer.kernel_size)
    return [(p, p) for p in layer.padding]


def patches(layer, x):
    """Cut out every patch: [batch, channels, places, kernel elements], and the numbers of places."""
    flat = [each for pair in reversed(pads(layer)) for each in pair]
    mode = {"zeros": "constant"}.get(layer.padding_mode, layer.padding_mode)
    x = F.pad(x, flat, mode=mode)
    geometry = zip(layer.kernel_size, layer.stride, layer.dilation, strict=True)
    for axis, (size, stride, dilation) in enumerate(geometry, start=2):
        x = x.unfold(axis, dilation * (size - 1) + 1, stride)[..., ::dilation]
    dims = len(layer.kernel_size)
    places = x.shape[2 : 2 + dims]
    return x.flatten(2 + dims).flatten(2, 1 + dims), places


def naive(layer, x):
    """Compute (w·x + b)² / (‖x − w‖² + ε), or what the layer's options make of it, for every patch."""
    cut, places = patches(layer, x)
    cut = cut.unflatten(1, (layer.groups, -1)).transpose(2, 3).flatten(3)
    weight = layer.weight.flatten(1).unflatten(0, (layer.groups, -1))
    score = torch.einsum("ngpe,gue->ngup", cut, weight)
    distance = (cut[:, :, None] - weight[None, :, :, None]).square().sum(-1)
    size = cut.square().sum(-1)[:, :, None] + weight.square().sum(-1)[None, :, :, None]
    shape = (1, layer.groups, -1, 1)
    bias = layer.bias.view(shape) if layer.bias is not None else 0.0
    epsilon = layer.epsilon.view(1, 1, -1, 1) if isinstance(layer.epsilon, torch.Tensor) else layer.epsilon
    alpha = layer.alpha.expand(layer.out_channels).view(shape)
    offset = layer.offset.expand(layer.out_channels).view(shape) if "offset" in layer._parameters else 0.0
    denominator = torch.maximum(distance, layer.floor * size) + epsilon
    return (alpha * (score + bias).square() / denominator + offset).flatten(1, 2).unflatten(2, places)


def assert_agrees(layer, x):
    expected = naive(layer, x)
    assert layer(x).shape == expected.shape
    assert torch.allclose(layer(x), expected, rtol=1e-9, atol=1e-9)


GEOMETRIES = [
    pytest.param({"groups": 2}, id="groups"),
    pytest.param({"groups": 4, "out_channels": 8}, id="depthwise, multiplied"),
    pytest.param({"dilation": 2}, id="dilation"),
    pytest.param({"padding": "same"}, id="same"),
    pytest.param({"padding": "same", "kernel_size": 2, "dilation": 3}, id="same, uneven"),
    pytest.param({"padding": "valid"}, id="valid"),
    pytest.param({"kernel_size": 1, "stride": 2}, id="strided 1×1"),
    pytest.param({"stride": 3, "padding": 2, "dilation": 2, "groups": 2, "bias": False}, id="everything"),
    *(pytest.param({"padding": 1, "padding_mode": mode}, id=mode) for mode in MODES),
    *(pytest.param({"padding": "same", "kernel_size": 2, "padding_mode": m}, id=f"same, {m}") for m in MODES),
]


def made(dims, geometry):
    options = {"in_channels": 4, "out_channels": 4, "kernel_size": 3, **geometry}
    return seeded(lambda: nn.Sequential(CONVOLUTIONS[dims](**options), nn.ReLU()).double())


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("dims", [1, 2, 3])
class TestEveryGeometry:
    def test_agrees_with_the_formula_on_patches(self, dims, geometry):
        """The weight stays, and each output is that of its own patch."""
        model = made(dims, geometry)
        x, weight = torch.randn(SIZES[dims], dtype=torch.float64), model[0].weight.clone()
        shape = model(x).shape
        bc.convert(model, rules(dims, epsilon=EPSILON))
        assert model(x).shape == shape
        assert torch.equal(model[0].weight, weight)
        assert_agrees(model[0], x)

    def test_agrees_where_it_is_fitted(self, dims, geometry):
        """Fitted on data, the layer has other coefficients and the same patches."""
        model = made(dims, geometry)
        x = torch.randn((8, *SIZES[dims][1:]), dtype=torch.float64)
        wanted = rules(dims, activation="drop", init="closed_form")
        wanted["rules"][0]["match"]["followed_by"] = ["ReLU"]
        report = bc.plan(model, wanted, example_inputs=(x,)).apply()
        assert "fitted" in report.applied[0].reason
        assert "offset" in model[0]._parameters
        assert_agrees(model[0], x)

    def test_reverts_to_the_same_bits(self, dims, geometry):
        """The convolution is back, geometry included."""
        model, original = made(dims, geometry), made(dims, geometry)
        x = torch.randn(SIZES[dims], dtype=torch.float64)
        bc.revert(bc.convert(model, rules(dims), example_inputs=(x,)))
        assert type(model[0]) is CONVOLUTIONS[dims]
        assert torch.equal(model(x), original(x))


@settings(max_examples=40, deadline=None)
@given(
    dims=st.integers(1, 3),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2, 4]),
    bias=st.booleans(),
    mode=st.sampled_from(MODES),
)
def test_any_combination(dims, kernel, stride, padding, dilation, groups, bias, mode):
    """Stride, padding, dilation, groups and mode go together in any way."""
    geometry = {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    model = made(dims, {**geometry, "groups": groups, "bias": bias, "padding_mode": mode})
    x = torch.linspace(-1, 1, 4 * 5**dims, dtype=torch.float64).view(1, 4, *[5] * dims)
    bc.convert(model, rules(dims, epsilon=EPSILON))
    assert_agrees(model[0], x)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_without_a_batch(dims):
    """A single example without its batch dimension gives what it gives in a batch of one."""
    model = bc.convert(made(dims, {"padding": 1}), rules(dims))
    x = torch.randn(SIZES[dims][1:], dtype=torch.float64)
    assert torch.allclose(model(x), model(x[None])[0])


TRANSPOSED = [nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d]


@pytest.mark.parametrize("given", ["conv", "path"])
@pytest.mark.parametrize("make", TRANSPOSED)
def test_a_transposed_convolution_is_left(make, given):
    """Whether the family or its name selects it, the reason names its class, and its output stays."""
    dims = TRANSPOSED.index(make) + 1
    model = seeded(lambda: nn.Sequential(make(4, 4, 3, stride=2, padding=1, output_padding=1)))
    x = torch.randn(SIZES[dims])
    expected = model(x)
    match = {"type": "conv"} if given == "conv" else {"path": "0"}
    rule = {"match": match, "replace": {"with": f"YatConv{dims}d"}}
    report = bc.plan(model, {"version": 1, "rules": [rule]}, example_inputs=(x,)).apply()
    assert report.applied == ()
    assert f"can't replace a {make.__name__}" in report.skipped[0].reason
    assert torch.equal(model(x), expected)


def test_a_kernel_of_other_dimensions_is_left():
    """A two-dimensional layer doesn't replace a one-dimensional one."""
    report = bc.plan(nn.Sequential(nn.Conv1d(4, 4, 3)), rules(2)).apply()
    assert "YatConv2d can't replace a Conv1d" in report.skipped[0].reason

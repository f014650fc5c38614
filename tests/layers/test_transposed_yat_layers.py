"""What is peculiar to the transposed Yat convolutions: sizes that are asked for, kinds of norm, formats."""

import pytest
import torch
from torch import nn
from yat_by_patches import by_formula

import bioconvert as bc
from bioconvert.layers import YatConvTranspose1d, YatConvTranspose2d, YatConvTranspose3d

GEOMETRIES = [
    pytest.param({"stride": 2, "padding": 1, "output_padding": 1}, id="strided"),
    pytest.param({"dilation": 2, "padding": 2}, id="dilated"),
    pytest.param({"groups": 4, "stride": 2}, id="depthwise"),
    pytest.param({"padding": (0, 1), "stride": (2, 1), "output_padding": (1, 0)}, id="uneven"),
    pytest.param({"stride": 4}, id="outputs that nothing reaches"),
]
OPTIONS = [
    pytest.param({}, id="defaults"),
    pytest.param({"spherical": True}, id="spherical"),
    pytest.param({"weight_normalized": True}, id="weight-normalized"),
]


def inputs(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("taps", ["contributing", "kernel"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
class TestGeometry:
    @pytest.mark.parametrize("options", OPTIONS)
    def test_is_the_formula_at_each_output(self, geometry, taps, options):
        """The kernel is laid down as torch's layer does it, and the distance is to what meets there."""
        layer = YatConvTranspose2d(4, 8, 3, **geometry, taps=taps, **options).double()
        x = inputs(2, 4, 3, 4)
        torch.testing.assert_close(layer(x), by_formula(layer, x))

    def test_channels_last(self, geometry, taps):
        """In the channels-last format values and gradients are the same, and the output is channels-last."""
        layer, x = YatConvTranspose2d(4, 8, 3, **geometry, taps=taps).double(), inputs(2, 4, 3, 4)
        expected = layer(x)
        gradients = torch.autograd.grad(expected.sin().sum(), [*layer.parameters()])
        y = layer.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
        torch.testing.assert_close(y, expected)
        torch.testing.assert_close(torch.autograd.grad(y.sin().sum(), [*layer.parameters()]), gradients)
        assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("cls", "given", "size"),
    [
        (YatConvTranspose1d, (2, 4, 3), (8,)),
        (YatConvTranspose2d, (2, 4, 3, 3), (7, 8)),
        (YatConvTranspose3d, (2, 4, 2, 2, 2), (5, 6, 5)),
    ],
    ids=["1d", "2d", "3d"],
)
class TestOutputSize:
    def test_is_what_is_asked_for(self, cls, given, size):
        """Of the sizes that the stride allows, `output_size` chooses one, as for torch's layer."""
        layer, x = cls(4, 6, 3, stride=2).double(), inputs(*given)
        assert layer(x, size).shape[2:] == size
        assert layer(x, output_size=[2, 6, *size]).shape[2:] == size
        torch.testing.assert_close(layer(x[0], size), layer(x, size)[0])

    def test_has_limits(self, cls, given, size):
        """Other sizes are refused, by torch itself."""
        with pytest.raises(ValueError, match="requested an output size of"):
            cls(4, 6, 3, stride=2)(torch.zeros(given), (1,) * len(size))

    def test_compiles(self, cls, given, size):
        """Compiled as a whole, with a size, the output is the same."""
        layer, x = cls(4, 6, 3, stride=2).double(), inputs(*given)
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(x, size), layer(x, size))


def test_the_size_that_is_asked_for_is_known_while_morphing():
    """A layer that goes over gradually takes all that the original took."""
    torch.manual_seed(0)
    model = nn.ConvTranspose2d(4, 6, 3, stride=2)
    x = torch.randn(2, 4, 3, 3)
    original = model(x, (8, 8))
    rule = {"with": "YatConvTranspose2d", "init": "keep", "morph": {"steps": 2}}
    bc.convert(model, {"version": 1, "rules": [{"match": {"type": "conv"}, "replace": rule}]})
    assert torch.equal(model(x, (8, 8)), original)
    bc.morph_step(model)
    half = model(x, (8, 8))
    bc.finalize(model)
    torch.testing.assert_close(half, (original + model(x, (8, 8))) / 2)


@pytest.mark.parametrize("layer", [nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d])
@pytest.mark.parametrize("taps", ["contributing", "kernel"])
def test_a_rule_converts_torchs_layer(layer, taps):
    """By a rule the layer becomes the Yat layer of its kind, on the same weight, and goes back."""
    name, shape = f"Yat{layer.__name__}", (2, 4, *[3] * int(layer.__name__[-2]))
    model, x = layer(4, 6, 3, stride=2, groups=2), torch.randn(shape)
    weight, original = model.weight, model(x)
    rule = {"with": name, "taps": taps, "init": "keep", "epsilon": 0.1}
    bc.convert(model, {"version": 1, "rules": [{"match": {"type": "conv"}, "replace": rule}]})
    assert type(model).__name__ == name
    assert model.weight is weight
    torch.testing.assert_close(model(x), by_formula(model, x))
    assert torch.equal(bc.revert(model)(x), original)


def test_a_fitted_one_imitates_what_it_was():
    """With example inputs, layer and activation are fitted together."""
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.ConvTranspose2d(8, 6, 2, stride=2), nn.ReLU()), torch.randn(16, 8, 6, 6)
    original = model(x)
    match = {"type": "conv", "followed_by": ["ReLU"]}
    rule = {"with": "YatConvTranspose2d", "activation": "drop"}
    bc.convert(model, {"version": 1, "rules": [{"match": match, "replace": rule}]}, example_inputs=(x,))
    error = (model(x) - original).square().mean() / original.var()
    assert error < 0.1


def test_a_user_may_trace_a_model_that_has_one():
    """The function stays whole in a trace."""
    model = nn.Sequential(YatConvTranspose2d(4, 6, 2, stride=2), nn.ReLU())
    x = torch.randn(1, 4, 3, 3)
    traced = torch.fx.symbolic_trace(model)
    assert torch.equal(traced(x), model(x))
    assert "yat_conv_transpose2d" in traced.code


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: YatConvTranspose1d(0, 3, 2), "channels must be positive, got 0 → 3"),
        (
            lambda: YatConvTranspose2d(4, 3, 2, taps="all"),
            "taps must be 'contributing' or 'kernel', got 'all'",
        ),
        (
            lambda: YatConvTranspose2d(4, 6, 3, groups=2, kernel_bank=nn.Parameter(torch.ones(4, 2, 3, 3))),
            r"kernel_bank must have the shape \[4, >= 3, 3, 3\]",
        ),
    ],
)
def test_bad_arguments_are_refused(make, message):
    """The constructor says what must hold, and what was given."""
    with pytest.raises(ValueError, match=message):
        make()


def test_the_kind_of_norm_shows():
    """The representation names it where it isn't the default."""
    assert "taps=kernel" in repr(YatConvTranspose1d(4, 6, 2, taps="kernel"))
    assert "taps" not in repr(YatConvTranspose1d(4, 6, 2))

"""What the Yat functions compute, against the definition."""

import pytest
import torch
from naive_yat import naive_conv, naive_linear

from bioconvert.functional import blocks, totals, yat, yat_conv1d, yat_conv2d, yat_conv3d, yat_linear

OPTIONS = [
    pytest.param({}, id="defaults"),
    pytest.param({"alpha": 1.4, "epsilon": 0.3}, id="numbers"),
    pytest.param({"alpha": torch.tensor([2.0]), "epsilon": torch.tensor([0.2])}, id="one tensor"),
    pytest.param({"alpha": torch.linspace(-1, 2, 6), "epsilon": torch.linspace(0.1, 1, 6)}, id="per unit"),
    pytest.param({"offset": torch.linspace(-1, 1, 6)}, id="offset"),
    pytest.param({"bias_mode": "post", "alpha": torch.linspace(-1, 2, 6)}, id="bias behind"),
    pytest.param({"floor": 0.9}, id="floor"),
]
GEOMETRIES = [
    pytest.param({}, id="plain"),
    pytest.param({"padding": 1}, id="padded"),
    pytest.param({"padding": "same"}, id="same"),
    pytest.param({"padding": "same", "dilation": 3}, id="same, dilated"),
    pytest.param({"padding": "valid"}, id="valid"),
    pytest.param({"stride": 2, "padding": 1}, id="strided"),
    pytest.param({"groups": 2}, id="grouped"),
    pytest.param({"groups": 2, "stride": 2, "dilation": 2, "padding": 2}, id="everything"),
]


def doubles(options):
    return {k: v.double() if isinstance(v, torch.Tensor) else v for k, v in options.items()}


def randn(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("bias", [True, False])
def test_linear_is_the_definition(options, bias):
    """Every option does to the quotient what the formula says."""
    x, weight, options = randn(5, 4), randn(6, 4), doubles(options)
    bias = randn(6) if bias else None
    torch.testing.assert_close(
        yat_linear(x, weight, bias, **options), naive_linear(x, weight, bias, **options)
    )


@pytest.mark.parametrize("shape", [(4,), (5, 4), (2, 3, 4), (0, 4), (2, 0, 4)])
def test_linear_takes_any_number_of_dimensions(shape):
    """Leading dimensions stay as they are, be there none or none of them filled."""
    x, weight = randn(*shape), randn(6, 4)
    torch.testing.assert_close(yat_linear(x, weight), naive_linear(x, weight))


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize(
    ("function", "kernel"),
    [(yat_conv1d, (3,)), (yat_conv2d, (3, 2)), (yat_conv3d, (1, 2, 3))],
    ids=["1d", "2d", "3d"],
)
def test_convolution_is_the_definition_at_every_patch(function, kernel, geometry):
    """Groups, dilation, stride and padding choose the patch whose norm counts."""
    geometry = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, **geometry}
    x, weight, bias = (
        randn(2, 4, *[9, 8, 7][: len(kernel)]),
        randn(6, 4 // geometry["groups"], *kernel),
        randn(6),
    )
    expected = naive_conv(x, weight, bias, alpha=1.5, **geometry)
    torch.testing.assert_close(function(x, weight, bias, alpha=1.5, **geometry), expected)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_convolution_has_every_option_in_every_layout(options, groups, layout):
    """Options belong to the output channels, wherever those lie in memory."""
    x, weight, bias, options = randn(2, 4, 6, 5), randn(6, 4 // groups, 3, 3), randn(6), doubles(options)
    expected = naive_conv(x, weight, bias, stride=1, padding=1, dilation=1, groups=groups, **options)
    found = yat_conv2d(x.to(memory_format=layout), weight, bias, padding=1, groups=groups, **options)
    torch.testing.assert_close(found, expected)
    assert found.is_contiguous(memory_format=layout)


def test_convolution_takes_one_picture_without_a_batch():
    """A picture alone gives what it gives in a batch of one."""
    x, weight = randn(4, 6, 5), randn(6, 4, 3, 3)
    assert torch.equal(yat_conv2d(x, weight), yat_conv2d(x[None], weight)[0])


@pytest.mark.parametrize("options", OPTIONS)
def test_blocks_change_nothing(options, monkeypatch):
    """Cut into small blocks, along whichever dimensions, value and gradients are the same."""
    x, weight, options = randn(3, 4, 6, 5), randn(6, 2, 3, 3), doubles(options)

    def results():
        leaves = [x.clone().requires_grad_(), weight.clone().requires_grad_()]
        y = yat_conv2d(*leaves, groups=2, padding=1, **options)
        return y, *torch.autograd.grad(y.sin().sum(), leaves)

    whole = results()
    for size in (7, 30, 100, 200):
        monkeypatch.setattr(blocks, "BLOCK", size)
        monkeypatch.setattr(totals, "BLOCK", size)
        torch.testing.assert_close(results(), whole)


def test_elementwise_product_is_the_definition():
    """The product of given scores and norms is that of the vectors they come from."""
    x, weight, bias = randn(5, 4), randn(6, 4), randn(6)
    norms = x.square().sum(1, keepdim=True), weight.square().sum(1)
    found = yat(x @ weight.t(), *norms, bias, alpha=0.5, offset=bias)
    torch.testing.assert_close(found, naive_linear(x, weight, bias, alpha=0.5, offset=bias))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_spherical_product_knows_no_length(scale):
    """With inputs and weights on the sphere, the length of neither matters."""
    x, weight = randn(5, 4), randn(6, 4)
    unit = torch.nn.functional.normalize
    expected = naive_linear(unit(x), unit(weight))
    torch.testing.assert_close(yat_linear(x * scale, weight * scale, spherical=True), expected)


def test_spherical_convolution_is_the_linear_one_at_every_patch():
    """A kernel as large as the picture makes a linear layer of the convolution."""
    x, weight = randn(3, 4, 2, 2), randn(6, 4, 2, 2)
    linear = yat_linear(x.flatten(1), weight.flatten(1), spherical=True)
    torch.testing.assert_close(yat_conv2d(x, weight, spherical=True).flatten(1), linear)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: yat_linear(randn(2, 4), randn(3, 4), bias_mode="in"), "bias_mode must be .* got 'in'"),
        (
            lambda: yat_conv2d(randn(1, 2, 5, 5), randn(3, 2, 3, 3), padding="full"),
            "padding must be .* 'full'",
        ),
    ],
)
def test_unknown_words_are_refused(call, message):
    """The error says what must hold and what was given."""
    with pytest.raises(ValueError, match=message):
        call()

"""What the transposed Yat convolutions compute, against the definition, output by output."""

import pytest
import torch
from naive_yat import naive_conv_transpose
from torch import func

from bioconvert.functional import yat_conv_transpose1d, yat_conv_transpose2d, yat_conv_transpose3d

GEOMETRIES = [
    pytest.param({}, id="plain"),
    pytest.param({"padding": 1}, id="padded"),
    pytest.param({"stride": 2, "padding": 1, "output_padding": 1}, id="strided"),
    pytest.param({"stride": 3}, id="outputs that nothing reaches"),
    pytest.param({"stride": 2, "dilation": 3, "output_padding": 2}, id="more added than a step"),
    pytest.param({"padding": 2, "dilation": 2, "output_padding": 1, "groups": 2}, id="grouped, dilated"),
    pytest.param({"stride": 2, "groups": 4}, id="depthwise"),
]
OPTIONS = [
    pytest.param({}, id="defaults"),
    pytest.param({"alpha": torch.linspace(-1, 2, 6), "epsilon": torch.linspace(0.1, 1, 6)}, id="per unit"),
    pytest.param({"offset": torch.linspace(-1, 1, 6), "bias_mode": "post"}, id="bias behind, offset"),
    pytest.param({"floor": 0.9}, id="floor"),
]
FUNCTIONS = {1: yat_conv_transpose1d, 2: yat_conv_transpose2d, 3: yat_conv_transpose3d}
PLAIN = {"stride": 1, "padding": 0, "output_padding": 0, "groups": 1, "dilation": 1}


def randn(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def operands(dims, groups):
    x, weight = randn(2, 4, *[3, 2, 3][:dims]), randn(4, 6 // groups, *[3, 2, 2][:dims])
    return x, weight, randn(weight.shape[1] * groups)


@pytest.mark.parametrize("taps", ["contributing", "kernel"])
class TestEitherNorm:
    @pytest.mark.parametrize("geometry", GEOMETRIES)
    @pytest.mark.parametrize("dims", [1, 2, 3])
    def test_is_the_definition_at_every_output(self, dims, geometry, taps):
        """Groups, dilation, stride and paddings choose what reaches an output, and by which taps."""
        geometry = {**PLAIN, **geometry}
        given = operands(dims, geometry["groups"])
        expected = naive_conv_transpose(*given, taps=taps, alpha=1.5, epsilon=0.1, **geometry)
        found = FUNCTIONS[dims](*given, taps=taps, alpha=1.5, epsilon=0.1, **geometry)
        torch.testing.assert_close(found, expected)

    @pytest.mark.parametrize("options", OPTIONS)
    @pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
    @pytest.mark.parametrize("groups", [1, 2])
    def test_has_every_option_in_every_layout(self, options, layout, groups, taps):
        """Options belong to the output channels, wherever those lie in memory."""
        options = {k: v.double() if isinstance(v, torch.Tensor) else v for k, v in options.items()}
        geometry = {**PLAIN, "stride": 2, "padding": 1, "groups": groups}
        x, weight, bias = operands(2, groups)
        expected = naive_conv_transpose(x, weight, bias, taps=taps, **geometry, **options)
        x = x.to(memory_format=layout)
        found = yat_conv_transpose2d(x, weight, bias, taps=taps, **geometry, **options)
        torch.testing.assert_close(found, expected)

    def test_no_distance_is_negative(self, taps):
        """Almost without epsilon, the quotient is finite and not negative where input and weight agree."""
        weight = randn(2, 3, 2, 2)
        x = weight[:, 1].unsqueeze(0).contiguous()
        y = yat_conv_transpose2d(x, weight, stride=2, taps=taps, epsilon=1e-12)
        assert y.isfinite().all()
        assert (y >= 0).all()

    def test_one_picture_needs_no_batch(self, taps):
        """A picture alone gives what it gives in a batch of one."""
        x, weight, bias = operands(2, 1)
        alone = yat_conv_transpose2d(x[0], weight, bias, taps=taps)
        torch.testing.assert_close(alone, yat_conv_transpose2d(x, weight, bias, taps=taps)[0])

    def test_what_is_known_already_is_used(self, taps):
        """Given products make no difference."""
        x, weight, bias = operands(2, 1)
        score = torch.nn.functional.conv_transpose2d(x, weight, stride=2)
        found = yat_conv_transpose2d(x, weight, bias, 2, taps=taps, score=score)
        torch.testing.assert_close(found, yat_conv_transpose2d(x, weight, bias, 2, taps=taps))

    def test_vmap_is_a_loop(self, taps):
        """Batched over inputs and weights, the product is that of each pair."""
        x, weight = randn(3, 2, 4, 5), randn(3, 4, 2, 3)

        def call(x, weight):
            return yat_conv_transpose1d(x, weight, stride=2, groups=2, taps=taps)

        looped = torch.stack([call(a, b) for a, b in zip(x, weight, strict=True)])
        torch.testing.assert_close(func.vmap(call)(x, weight), looped)

    @pytest.mark.parametrize("norm", [64.0, 9e5])
    def test_an_input_near_a_weight_is_computed_in_double(self, norm, taps):
        """Of a batch of pictures, those that come near a kernel are right in fp32 too."""
        weight = torch.randn(16, 4, 2, 2) * (norm / 64) ** 0.5
        x = torch.randn(3, 16, 3, 3)
        x[1, :, 1, 2] = weight[:, 3, 0, 1] * (1 + 1e-3)
        found = yat_conv_transpose2d(x, weight, stride=2, taps=taps)
        exact = yat_conv_transpose2d(x.double(), weight.double(), stride=2, taps=taps)
        assert ((found - exact).abs() / exact.clamp_min(1e-3)).max() < 1e-3


def test_an_input_equal_to_the_taps_has_no_distance():
    """Where what arrives is what it meets, the quotient is ‖w‖⁴/ε; by the whole kernel's norm it is not."""
    weight = randn(4, 1, 3)
    x = weight[:, :, 1].reshape(1, 4, 1)
    expected = weight[:, 0, 1].square().sum().square() / 0.01
    at = yat_conv_transpose1d(x, weight, epsilon=0.01)[0, 0, 1]
    torch.testing.assert_close(at, expected)
    assert yat_conv_transpose1d(x, weight, epsilon=0.01, taps="kernel")[0, 0, 1] < expected / 2


def test_where_nothing_arrives_the_bias_is_left():
    """An output that no tap reaches is b²/ε, and no gradient flows from it but to the bias."""
    x, weight, bias = randn(1, 1, 2), randn(1, 1, 1), torch.tensor([0.3], dtype=torch.float64)
    for tensor in (x, weight, bias):
        tensor.requires_grad_()
    y = yat_conv_transpose1d(x, weight, bias, stride=2, epsilon=0.5)[0, 0, 1]
    torch.testing.assert_close(y, bias[0].square() / 0.5)
    y.backward()
    assert x.grad.abs().sum() == weight.grad.abs().sum() == 0
    torch.testing.assert_close(bias.grad, 2 * bias.detach() / 0.5)


def test_an_unknown_norm_is_refused():
    """The error says what must hold and what was given."""
    with pytest.raises(ValueError, match="taps must be 'contributing' or 'kernel', got 'all'"):
        yat_conv_transpose1d(randn(1, 1, 2), randn(1, 1, 1), taps="all")

"""The dynamic convolutions and linear map as functions, against torch's own, sample by sample."""

import pytest
import torch
from torch.nn import functional as F

from bioconvert.functional import (
    dynamic_conv1d,
    dynamic_conv2d,
    dynamic_conv3d,
    dynamic_conv_transpose1d,
    dynamic_conv_transpose2d,
    dynamic_conv_transpose3d,
    dynamic_linear,
)
from bioconvert.functional.dynamic_linear import mixed_linear, mixes_outputs
from bioconvert.functional.sample_convolution import Convolution
from bioconvert.functional.sample_matrix import Matrix

# torch warns where one side is padded more than the other.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")

CASES = {
    "1d": (dynamic_conv1d, F.conv1d, (4, 9), (6, 4, 3), {"padding": 1}),
    "1d, strided": (dynamic_conv1d, F.conv1d, (4, 9), (6, 2, 3), {"stride": 2, "groups": 2}),
    "2d": (dynamic_conv2d, F.conv2d, (4, 6, 5), (6, 4, 3, 3), {"padding": (0, 2)}),
    "2d, same": (dynamic_conv2d, F.conv2d, (4, 6, 5), (6, 4, 3, 2), {"padding": "same", "dilation": (1, 3)}),
    "2d, valid": (dynamic_conv2d, F.conv2d, (4, 6, 5), (6, 4, 3, 2), {"padding": "valid"}),
    "2d, depthwise": (dynamic_conv2d, F.conv2d, (4, 6, 5), (4, 1, 3, 3), {"groups": 4, "padding": 2}),
    "2d, pointwise": (dynamic_conv2d, F.conv2d, (4, 6, 5), (6, 4, 1, 1), {"padding": "same"}),
    "2d, pointwise, strided": (dynamic_conv2d, F.conv2d, (4, 6, 5), (6, 4, 1, 1), {"stride": 2}),
    "3d": (dynamic_conv3d, F.conv3d, (2, 4, 3, 4), (3, 2, 2, 2, 2), {"dilation": 2}),
    "transposed 1d": (dynamic_conv_transpose1d, F.conv_transpose1d, (4, 5), (4, 3, 3), {"padding": 1}),
    "transposed 2d": (
        dynamic_conv_transpose2d,
        F.conv_transpose2d,
        (4, 3, 4),
        (4, 3, 3, 3),
        {"stride": 2, "output_padding": 1, "groups": 2},
    ),
    "transposed 3d": (
        dynamic_conv_transpose3d,
        F.conv_transpose3d,
        (2, 2, 3, 2),
        (2, 3, 2, 2, 2),
        {"dilation": 2},
    ),
    "linear": (dynamic_linear, F.linear, (4,), (3, 4), {}),
    "linear, tokens": (dynamic_linear, F.linear, (5, 2, 4), (3, 4), {}),
}
BATCH = 6


def outputs(name, shape):
    """Give the number of output channels of a case."""
    groups = CASES[name][4].get("groups", 1)
    return shape[1] * groups if name.startswith("transposed") else shape[0]


def drawn(name, weights, *, bias="rows"):
    """Give inputs, weights and biases of a case, in fp64."""
    torch.manual_seed(0)
    _, _, given, shape, _ = CASES[name]
    size = outputs(name, shape)
    biases = {"rows": (weights, size), "one": (size,), "none": None}[bias]
    return (
        torch.randn(BATCH, *given, dtype=torch.float64),
        torch.randn(weights, *shape, dtype=torch.float64),
        None if biases is None else torch.randn(biases, dtype=torch.float64),
    )


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("weights", [1, 2, BATCH])
class TestEveryProduct:
    @pytest.mark.parametrize("bias", ["rows", "one", "none"])
    def test_is_torchs_own_for_each_sample(self, name, weights, bias):
        """Each sample meets the weight and the bias of its place among the weights."""
        product, single, _, _, options = CASES[name]
        x, weight, offset = drawn(name, weights, bias=bias)
        expected = []
        for index, sample in enumerate(x):
            row = index * weights // BATCH
            own = offset if offset is None or offset.dim() == 1 else offset[row]
            expected.append(single(sample[None], weight[row], own, **options)[0])
        torch.testing.assert_close(product(x, weight, offset, **options), torch.stack(expected))

    def test_derivatives(self, name, weights):
        """First and second derivatives agree with differences."""
        product, *_, options = CASES[name]
        given = [tensor.requires_grad_() for tensor in drawn(name, weights)]

        def function(x, weight, bias):
            return product(x, weight, bias, **options)

        assert torch.autograd.gradcheck(function, given, fast_mode=True)
        assert torch.autograd.gradgradcheck(function, given, fast_mode=True)

    def test_gradients_by_hand(self, name, weights):
        """What the maps compute for a closed gate are the gradients that autograd finds."""
        *_, options = CASES[name]
        how = Matrix() if name.startswith("linear") else Convolution(**options)
        if name.startswith("transposed"):
            how = how._replace(transposed=True)
        x, weight, bias = (tensor.requires_grad_() for tensor in drawn(name, weights))
        y = how.varied(x, weight, bias)
        onward = torch.randn_like(y)
        (by_weight,) = torch.autograd.grad(y, weight, onward)
        torch.testing.assert_close(how.by_weights(onward, x.detach(), weight.detach()), by_weight)
        y = how.plain(x, weight[0], bias[0])
        by_x, by_bias = torch.autograd.grad(y, (x, bias), onward)
        torch.testing.assert_close(how.by_input(onward, x.detach(), weight[0].detach()), by_x)
        torch.testing.assert_close(how.by_bias(onward), by_bias[0])


@pytest.mark.parametrize("name", CASES)
class TestShapes:
    def test_without_a_batch(self, name):
        """One input without a batch gives an output without one."""
        product, *_, options = CASES[name]
        x, weight, bias = drawn(name, 1)
        if name == "linear, tokens":
            pytest.skip("a linear map takes the first dimension of a matrix for the batch")
        torch.testing.assert_close(
            product(x[0], weight, bias, **options), product(x, weight, bias, **options)[0]
        )

    def test_without_samples(self, name):
        """An empty batch gives an empty output of the right shape, whatever the number of weights."""
        product, *_, options = CASES[name]
        x, weight, bias = drawn(name, BATCH)
        shape = product(x, weight, bias, **options).shape
        for count in (0, 1, BATCH):
            empty = product(x[:0], weight[:count], bias[:count], **options)
            assert empty.shape == (0, *shape[1:])

    def test_errors(self, name):
        """Numbers that don't fit are told."""
        product, *_, options = CASES[name]
        x, weight, bias = drawn(name, 4)
        with pytest.raises(ValueError, match="multiple of the number of weights, got 6 and 4"):
            product(x, weight, bias, **options)
        with pytest.raises(ValueError, match="bias must have 4 rows"):
            product(x, weight, bias[:2], **options)
        with pytest.raises(ValueError, match="weight must have"):
            product(x, weight[0], bias, **options)


class TestMixedOutputs:
    @pytest.mark.parametrize("given", [(6, 4), (6, 3, 4)])
    def test_are_those_of_mixed_matrices(self, given):
        """Mixing outputs and mixing matrices give the same."""
        torch.manual_seed(0)
        x, matrices = torch.randn(given).double(), torch.randn(3, 5, 4).double()
        shares = torch.randn(6, 3).double().softmax(1)
        expected = dynamic_linear(x, torch.einsum("nk,kof->nof", shares, matrices))
        torch.testing.assert_close(mixed_linear(x, matrices, shares), expected)

    @pytest.mark.parametrize(
        ("positions", "kernels", "expected"), [(1, 4, True), (2, 4, False), (2, 2, True), (9, 1, True)]
    )
    def test_are_chosen_by_count(self, positions, kernels, expected):
        """The way with fewer multiplications is taken."""
        assert mixes_outputs(positions, kernels) is expected

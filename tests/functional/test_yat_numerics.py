"""The Yat functions where numbers are hard: near a weight, at zero, large, and in half precision."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from bioconvert.functional import yat_conv2d, yat_linear

NORMS = [64.0, 2.6e4, 9e5]


def weights(norm, count=16, features=64):
    generator = torch.Generator().manual_seed(0)
    return F.normalize(torch.randn(count, features, generator=generator), dim=1) * norm**0.5


def of_own_weight(y):
    return y.diagonal().double()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("floor", [0.0, 1e-5])
@settings(max_examples=40, deadline=None)
@given(part=st.floats(1e-8, 1.0), seed=st.integers(0, 2**16))
def test_error_near_a_weight_is_small(norm, floor, part, seed):
    """At any distance from a weight of any norm, fp32 is within 1e-3 of fp64."""
    weight = weights(norm)
    step = F.normalize(torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)), dim=1)
    x = weight + step * (part * norm) ** 0.5
    found = of_own_weight(yat_linear(x, weight, floor=floor))
    exact = of_own_weight(yat_linear(x.double(), weight.double(), floor=floor))
    assert ((found - exact).abs() / exact).max() < 1e-3


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("call", [yat_linear, lambda x, w: yat_linear(x, w, spherical=True)])
def test_an_input_equal_to_a_weight_has_the_right_value_and_gradient(norm, call):
    """At x = w, where the distance is 0, value and gradient are those of fp64."""
    x, weight = weights(norm).requires_grad_(), weights(norm)
    wide = x.detach().double().requires_grad_()
    y, exact = call(x, weight), call(wide, weight.double())
    torch.testing.assert_close(of_own_weight(y), of_own_weight(exact), rtol=1e-3, atol=0.0)
    torch.testing.assert_close(
        torch.autograd.grad(y.diagonal().sum(), x)[0].double(),
        torch.autograd.grad(exact.diagonal().sum(), wide)[0],
        rtol=1e-2,
        atol=0.0,
    )


def test_a_patch_equal_to_a_kernel_has_the_right_value():
    """Of a batch of pictures, only those with such a patch are computed anew, and rightly."""
    x, weight = torch.randn(3, 2, 6, 6), torch.randn(4, 2, 3, 3)
    x[1, :, 2:5, 1:4] = weight[2]
    found, exact = yat_conv2d(x, weight), yat_conv2d(x.double(), weight.double())
    torch.testing.assert_close(found.double(), exact, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("options", [{}, {"spherical": True}, {"floor": 1e-5}])
def test_zeros_and_equals_give_finite_numbers(dtype, options):
    """No input that is zero or a weight gives a NaN or an infinity, in value or gradient."""
    weight = weights(64.0).to(dtype)
    weight[0] = 0
    weight.requires_grad_()
    x = torch.cat((weight.detach(), torch.zeros(1, 64, dtype=dtype))).requires_grad_()
    y = yat_linear(x, weight, **options)
    y.float().mean().backward()
    assert y.dtype == dtype
    assert all(torch.isfinite(tensor).all() for tensor in (y, x.grad, weight.grad))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 1e-3), (torch.bfloat16, 1e-2)])
def test_half_precision_is_computed_in_single(dtype, tolerance):
    """The output is the fp32 one, rounded once."""
    x, weight = torch.randn(8, 32).to(dtype), torch.randn(16, 32).to(dtype)
    exact = yat_linear(x.double(), weight.double())
    torch.testing.assert_close(yat_linear(x, weight).double(), exact, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_lowers_the_output_alone(dtype):
    """Under autocast the output has autocast's type, and the score is as good as without."""
    x, weight = torch.randn(8, 32), torch.randn(16, 32)
    with torch.autocast("cpu", dtype):
        y = yat_linear(x, weight)
    assert torch.equal(y, yat_linear(x, weight).to(dtype))


def test_autocast_leaves_double_precision():
    """As for torch's own layers, fp64 stays fp64."""
    with torch.autocast("cpu", torch.bfloat16):
        assert yat_linear(torch.randn(2, 3).double(), torch.randn(2, 3).double()).dtype == torch.float64

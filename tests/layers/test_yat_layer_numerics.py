"""Yat layers where numbers are hard, and how they scale."""

import copy
import math

import pytest
import torch
from torch.nn import functional as F

from bioconvert.layers import YatLinear


class TestNumerics:
    @pytest.mark.parametrize("size", [64, 2.6e4, 9e5])
    def test_near_a_weight(self, size):
        """Where x is near w, fp32 is within 1e-3 of fp64, whatever the norm."""
        torch.manual_seed(0)
        weight = F.normalize(torch.randn(8, 128, dtype=torch.float64), dim=1) * math.sqrt(size)
        x = weight + 1e-3 * math.sqrt(size) * torch.randn(8, 128, dtype=torch.float64) / math.sqrt(128)
        exact = YatLinear(128, 8, bias=False, dtype=torch.float64)
        with torch.no_grad():
            exact.weight.copy_(weight)
        rounded = copy.deepcopy(exact).float()
        x, exact.weight.data = x.float().double(), rounded.weight.detach().double()
        error = (rounded(x.float()).double() - exact(x)).abs() / exact(x)
        assert error.max() < 1e-3

    def test_at_a_weight_and_at_zero(self):
        """x = w and x = 0 give finite values and gradients."""
        layer = YatLinear(4, 3)
        for x in (layer.weight.detach().clone(), torch.zeros(3, 4)):
            x.requires_grad_()
            layer(x).sum().backward()
            assert x.grad.isfinite().all()
            assert layer.weight.grad.isfinite().all()

    def test_homogeneity(self):
        """yat(λw, λx; λ²b, λ²ε) = λ² yat(w, x; b, ε)."""
        layer, x = YatLinear(4, 6, epsilon=0.3).double(), torch.randn(3, 4).double()
        scaled = copy.deepcopy(layer)
        with torch.no_grad():
            scaled.weight.mul_(3)
            scaled.bias.mul_(9)
        scaled.epsilon = 0.3 * 9
        torch.testing.assert_close(scaled(3 * x), 9 * layer(x))

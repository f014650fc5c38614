"""The Yat counterparts of the convolutions: the same product at every patch."""

from __future__ import annotations

import torch

from bioconvert.functional.geometry import Padding, Size, convolution
from bioconvert.functional.precision import narrowed, output_dtype, score_dtype, without_autocast
from bioconvert.functional.product import product
from bioconvert.functional.units import BiasMode, Units, make_units
from bioconvert.functional.yat_formula import Coefficient

_PADDING: Padding = 0


def yat_conv1d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    groups: int = 1,
    *,
    alpha: Coefficient | None = None,
    epsilon: Coefficient = 1e-5,
    offset: torch.Tensor | None = None,
    bias_mode: BiasMode = "pre",
    floor: float = 0.0,
    spherical: bool = False,
) -> torch.Tensor:
    """Put :func:`yat_linear`'s product upon a convolution over one dimension; see :func:`yat_conv2d`."""
    units = make_units(bias, alpha, epsilon, offset, bias_mode)
    return _convolved(1, x, weight, (stride, padding, dilation, groups), units, floor, spherical)

"""What belongs to the output units of a Yat layer, brought into the form that the product takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch.nn import functional as F

from bioconvert.functional.yat_formula import Coefficient

BiasMode = Literal["pre", "post"]


class Units(NamedTuple):
    """Bias inside the square, factor, epsilon and offset: numbers, or tensors of shape [1] or [units]."""

    bias: Coefficient | None
    alpha: Coefficient | None
    epsilon: Coefficient
    offset: Coefficient | None

    def map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Units:
        """Apply a function to those that are tensors."""
        return Units._make(change(unit) if isinstance(unit, torch.Tensor) else unit for unit in self)


def make_units(
    bias: Coefficient | None,
    alpha: Coefficient | None,
    epsilon: Coefficient,
    offset: Coefficient | None,
    bias_mode: BiasMode,
) -> Units:
    r"""Write a bias behind the quotient as an offset: :math:`\alpha (q + b) + o = \alpha q + (\alpha b + o)`.

    Raises:
        ValueError: an unknown ``bias_mode``.
    """
    if bias_mode not in ("pre", "post"):
        raise ValueError(f"bias_mode must be 'pre' or 'post', got {bias_mode!r}")
    if bias is None or bias_mode == "pre":
        return Units(bias, alpha, epsilon, offset)
    shift = bias if alpha is None else alpha * bias
    return Units(None, alpha, epsilon, shift if offset is None else shift + offset)


def effective_bias(
    bias: torch.Tensor | None, *, softplus: bool, scalar: bool, constant: float | None
) -> Coefficient | None:
    r"""Give the bias that the units use in place of the one that is there.

    Args:
        bias: the bias :math:`b` that is there.
        softplus: whether :math:`\ln(1 + e^b)` is used.
        scalar: whether the mean of :math:`b` is used by all units.
        constant: a number to use instead.
    """
    if constant is not None:
        return constant
    if bias is not None and scalar:
        bias = bias.mean(0, keepdim=True)
    return F.softplus(bias) if bias is not None and softplus else bias

"""What belongs to the output units of a Yat layer, brought into the form that the product takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch

from bioconvert.functional.yat_formula import Coefficient

BiasMode = Literal["pre", "post"]


class Units(NamedTuple):
    """Bias inside the square, factor, epsilon and offset: numbers, or tensors of shape [1] or [units]."""

    bias: torch.Tensor | None
    alpha: Coefficient | None
    epsilon: Coefficient
    offset: torch.Tensor | None

    def map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Units:
        """Apply a function to those that are tensors."""
        return Units._make(change(unit) if isinstance(unit, torch.Tensor) else unit for unit in self)


def make_units(
    bias: torch.Tensor | None,
    alpha: Coefficient | None,
    epsilon: Coefficient,
    offset: torch.Tensor | None,
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

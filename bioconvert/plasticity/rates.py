r"""Keeping one rate for each weight, in full or in a byte.

In a byte, a rate :math:`\rho` within bounds :math:`[l, u]` is kept on a logarithmic scale: the code is
:math:`254 \ln(\rho / l) / \ln(u / l)`, rounded, so that the relative error is at most
:math:`\ln(u / l) / 508`. The number of steps is even, so that the middle is met: 1 for bounds 1/2 and 2.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field

from bioconvert.core.lazy import LazyModule
from bioconvert.ruleset.frozen import fault

if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    low, high = bounds
    if not (0 < low < high and math.isfinite(high)):
        raise fault(f"must be the least and the greatest rate, 0 < least < greatest, not [{low:g}, {high:g}]")
    return bounds


Storage = Literal["full", "compact"]
Bounds = Annotated[tuple[float, float], Field(strict=False), AfterValidator(_ordered)]
"""Least and greatest rate; rule files give a list."""
_LEVELS = 254


def encode(rates: torch.Tensor, bounds: Bounds, storage: Storage) -> torch.Tensor:
    """Give rates in the form in which they are kept."""
    if storage == "full":
        return rates
    low, high = bounds
    scale = _LEVELS / math.log(high / low)
    codes = rates.float().clamp(low, high).div_(low).log_().mul_(scale).round_()
    return codes.to(torch.uint8)


def decode(kept: torch.Tensor, bounds: Bounds) -> torch.Tensor:
    """Give rates back from the form in which they are kept; fp32 if they were kept in a byte."""
    if kept.dtype != torch.uint8:
        return kept
    low, high = bounds
    return kept.float().mul_(math.log(high / low) / _LEVELS).exp_().mul_(low)

r"""Keeping one rate for each weight, in full or in a byte.

In a byte, a rate :math:`\rho` within bounds :math:`[l, u]` is kept on a logarithmic scale: the code is
:math:`255 \ln(\rho / l) / \ln(u / l)`, rounded, so that the relative error is at most
:math:`\ln(u / l) / 510`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from bioconvert.core.lazy import LazyModule

if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")

Storage = Literal["full", "compact"]
Bounds = Annotated[tuple[float, float], Field(strict=False)]
"""Least and greatest rate; rule files give a list."""
_LEVELS = 255


def encode(rates: torch.Tensor, bounds: Bounds, storage: Storage) -> torch.Tensor:
    """Give rates in the form in which they are kept."""
    if storage == "full":
        return rates
    low, high = bounds
    scale = _LEVELS / math.log(high / low)
    codes = rates.clamp(low, high).div(low).log_().mul_(scale).round_()
    return codes.to(torch.uint8)


def decode(kept: torch.Tensor, bounds: Bounds) -> torch.Tensor:
    """Give rates back from the form in which they are kept; fp32 if they were kept in a byte."""
    if kept.dtype != torch.uint8:
        return kept
    low, high = bounds
    return torch.exp(kept.float().mul_(math.log(high / low) / _LEVELS)).mul_(low)

"""What a weight's values and magnitudes are like, on the whole."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from bioconvert.plasticity.layout import flat
from bioconvert.plasticity.part import PIECE
from bioconvert.plasticity.synapses import Synapses


@dataclass(frozen=True, slots=True)
class Sizes:
    """Statistics of a weight; deviations are unbiased.

    Args:
        mean: of the values.
        std: of the values.
        mean_size: of the magnitudes.
        std_size: of the magnitudes.
        negative: share of the values below 0; 0 where it wasn't counted.
        is_finite: whether none is NaN or infinite.
    """

    mean: float
    std: float
    mean_size: float
    std_size: float
    negative: float
    is_finite: bool


def sizes_of(synapses: Synapses, *, signs: bool = True) -> Sizes:
    """Measure a weight; what isn't finite is left out.

    Args:
        synapses: the weight.
        signs: whether to count negative values.
    """
    weight, total = flat(synapses.weight), synapses.extent.total
    sums = synapses.total(_added_up(weight, signs))
    is_finite = bool(sums.isfinite().all())
    if not is_finite:
        weight = weight[weight.isfinite()]
        counted = torch.tensor([weight.numel()], dtype=torch.float64, device=weight.device)
        total = int(synapses.total(counted))
        sums = synapses.total(_added_up(weight, signs))
    values, sizes, squares, negative = (float(each) / max(total, 1) for each in sums)
    return Sizes(
        values, _std(squares, values, total), sizes, _std(squares, sizes, total), negative, is_finite
    )


def _added_up(weight: torch.Tensor, signs: bool) -> torch.Tensor:
    """Give the sums of values, magnitudes and squares, and the number of negative values."""
    sums = torch.zeros(4, dtype=torch.float64, device=weight.device)
    scratch = torch.empty(min(PIECE, weight.numel()), device=weight.device)
    for start in range(0, weight.numel(), PIECE):
        piece = weight[start : start + PIECE].float()
        room = scratch[: len(piece)]
        found = [piece.sum(), torch.abs(piece, out=room).sum(), torch.dot(piece, piece)]
        if signs:
            # Without comparisons, which take several times as long (measured).
            found.append(torch.sign(piece, out=room).clamp_(max=0).sum().neg())
        sums[: len(found)] += torch.stack(found).double()
    return sums


def _std(squares: float, mean: float, count: int) -> float:
    return math.sqrt(max(squares - mean**2, 0.0) * count / max(count - 1, 1))

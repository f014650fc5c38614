"""Inputs that lie so near a weight that fp32 can't tell their distance.

The squared distance is a difference of squared norms; where it is small against them, its digits are rounding
errors. These inputs are rare, so that computing them once more in fp64 costs nothing to speak of.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from bioconvert.functional.yat_formula import Terms, denominator

NEAR = 2e-3
"""A squared distance below this part of the squared norms is computed in fp64.

In fp32 its rounding error is at most 6e-7 of the squared norms (measured for 16 to 4096 features), so that what
is not near is right to 3e-4.
"""


def with_exact(
    y: torch.Tensor,
    least: torch.Tensor | None,
    score: torch.Tensor,
    terms: Terms,
    floor: float,
    exact: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """Replace the outputs of inputs near a weight.

    Args:
        y: outputs, with the inputs in dimension 0.
        least: the least denominator of each input; ``None`` if nobody looked.
        score: the scores that ``y`` was computed from.
        terms: what else it was computed from.
        floor: likewise.
        exact: computes the outputs of the inputs at some indices in fp64.
    """
    if least is None:
        return y
    near = _near(least, score, terms, floor)
    return y.index_copy(0, near, exact(near).to(y.dtype)) if near.numel() else y


@torch.no_grad()
def _near(least: torch.Tensor, score: torch.Tensor, terms: Terms, floor: float) -> torch.Tensor:
    if (least - NEAR * terms.input_norm).amin() >= NEAR * terms.weight_norm.amax():
        return score.new_empty(0, dtype=torch.long)
    total = terms.input_norm + terms.weight_norm
    near = denominator(score, terms, floor)[0] < NEAR * total
    return near.flatten(1).any(1).nonzero().squeeze(1)

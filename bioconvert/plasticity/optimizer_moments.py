"""What optimizers remember of single weights, and forgetting it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from bioconvert.plasticity.layout import flat, laid_like

MOMENTS = frozenset(
    {
        "exp_avg",
        "exp_avg_sq",
        "max_exp_avg_sq",
        "exp_inf",
        "momentum_buffer",
        "square_avg",
        "grad_avg",
        "acc_delta",
        "sum",
        "prev",
    }
)
"""The names under which torch's optimizers keep averages of a weight's gradients and updates."""
AVERAGES = frozenset({"exp_avg", "momentum_buffer", "grad_avg", "prev"})
"""Those of them that have a sign, as gradients do; the others are of their sizes."""


def moments_in(
    state: Mapping[str, Any], weight: torch.Tensor, names: Collection[str] = MOMENTS
) -> list[torch.Tensor]:
    """Give what an optimizer's state holds for each element of a weight, under some names."""
    named = [value for name, value in state.items() if name in names]
    return [value for value in named if isinstance(value, torch.Tensor) and value.shape == weight.shape]


@contextmanager
def flat_moments(
    state: Mapping[str, Any], weight: torch.Tensor, names: Collection[str] = MOMENTS
) -> Iterator[list[torch.Tensor]]:
    """Give the moments as rows in the order of the weight's elements; what is written to them stays."""
    found = moments_in(state, weight, names)
    laid = [laid_like(moment, weight) for moment in found]
    yield [flat(moment) for moment in laid]
    for moment, copy in zip(found, laid, strict=True):
        if copy is not moment:
            moment.copy_(copy)

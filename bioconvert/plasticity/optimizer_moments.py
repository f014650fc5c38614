r"""What optimizers remember of single weights, and forgetting it.

Adam divides its moments by :math:`1 - \beta^t`, which makes up for their start at zero, with one count
:math:`t` of steps for a whole parameter. It no longer does so where the moments of some weights are cleared
later: the second moment grows more slowly than the first, and such weights move up to six times too far.
"""

from __future__ import annotations

import math
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


def own_step(age: torch.Tensor, state: Mapping[str, Any], group: Mapping[str, Any]) -> torch.Tensor | None:
    r"""Give the factor that makes updates those of an Adam whose count of steps began with the weights.

    .. math::
        \frac{1 - \beta_1^t}{1 - \beta_1^a} \sqrt{\frac{1 - \beta_2^a}{1 - \beta_2^t}}

    It is exact but for Adam's :math:`\epsilon`.

    Args:
        age: :math:`a`, the number of steps since the moments were cleared, this one included.
        state: what the optimizer keeps of the parameter, with its count :math:`t`.
        group: the optimizer's settings for it.

    Returns:
        ``None`` where the optimizer has no such count.
    """
    if not {"exp_avg", "exp_avg_sq", "step"} <= state.keys() or "betas" not in group:
        return None
    first, second = (float(beta) for beta in group["betas"])
    step = float(state["step"])
    age = age.double().clamp(1, max(step, 1))
    return _warm(first, step) / (1 - first**age) * ((1 - second**age) / _warm(second, step)).sqrt()


def is_young(age: torch.Tensor, group: Mapping[str, Any]) -> torch.Tensor:
    """Say which ages are so low that the factor of :func:`own_step` matters, for the next step."""
    slowest = max((float(beta) for beta in group.get("betas", (0.0, 0.0))), default=0.0)
    return slowest ** age.double() > _NEGLIGIBLE


_NEGLIGIBLE = 1e-2
"""The share of its start that a moment may still hold."""


def _warm(beta: float, step: float) -> float:
    return 1 - math.pow(beta, max(step, 1))

r"""Updates of weights that are younger than their optimizer's count of steps.

Adam divides its moments by :math:`1 - \beta^t`, which makes up for their start at zero, with one count
:math:`t` of steps for a whole parameter. It no longer does so where the moments of some weights are cleared
later, or the weights are new: the second moment grows more slowly than the first, and such weights move up to
six times too far.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch


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

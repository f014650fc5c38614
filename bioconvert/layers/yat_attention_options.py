"""The options of a Yat attention: from the arguments that users give to what an instance holds."""

from __future__ import annotations

import math
from typing import Any, Literal

AttentionAlpha = Literal["learnable", "none"] | float
_ALPHA_MODES = ("learnable", "none")


def yat_attention_attributes(
    *,
    alpha: AttentionAlpha = "learnable",
    per_head: bool = False,
    epsilon: float = 1e-5,
    learnable_epsilon: bool = False,
    spherical: bool = False,
    block_size: int | None = None,
    floor: float = 0.0,
) -> dict[str, Any]:
    """Give the plain attributes of a Yat attention with these options.

    Args:
        alpha: ``"learnable"``, ``"none"`` or a number.
        per_head: whether alpha is one for each head.
        epsilon: a positive number.
        learnable_epsilon: whether epsilon is a parameter, and no attribute.
        spherical: whether queries and keys are brought to unit length.
        block_size: number of queries and keys that are treated at once, or ``None``.
        floor: least squared distance, in units of the squared norms.

    Raises:
        ValueError: an option is out of its bounds.
    """
    if isinstance(alpha, str) and alpha not in _ALPHA_MODES:
        raise ValueError(f"alpha must be one of {_ALPHA_MODES} or a number, got {alpha!r}")
    if per_head and alpha != "learnable":
        raise ValueError(f"per_head must come with a learnable alpha, got {alpha!r}")
    if not epsilon > 0:
        raise ValueError(f"epsilon must be positive, got {epsilon!r}")
    if block_size is not None and block_size < 1:
        raise ValueError(f"block_size must be positive, got {block_size!r}")
    constant = not isinstance(alpha, str)
    attributes: dict[str, Any] = {
        "alpha_mode": "constant" if constant else alpha,
        "per_head": per_head,
        "learnable_epsilon": learnable_epsilon,
        "spherical": spherical,
        "block_size": block_size,
        "floor": floor,
    }
    if constant:
        attributes["alpha"] = alpha
    if not learnable_epsilon:
        attributes["epsilon"] = epsilon
    return attributes


def yat_attention_parameters(
    heads: int,
    *,
    alpha: AttentionAlpha = "learnable",
    per_head: bool = False,
    epsilon: float = 1e-5,
    learnable_epsilon: bool = False,
    **_: Any,
) -> dict[str, tuple[tuple[int, ...], float]]:
    """Give the parameters that a Yat attention has beside its projections: name → shape and initial value.

    Args:
        heads: number of heads.
        alpha: as for :func:`yat_attention_attributes`, like all that follow.
        per_head: whether alpha is one for each head.
        epsilon: the value that a learnable epsilon starts from.
        learnable_epsilon: whether there is ``raw_epsilon``, of which epsilon is the softplus.
    """
    found: dict[str, tuple[tuple[int, ...], float]] = {}
    if alpha == "learnable":
        found["alpha"] = ((heads if per_head else 1,), 1.0)
    if learnable_epsilon:
        # The number whose softplus is epsilon, exact where that is small.
        found["raw_epsilon"] = ((1,), epsilon + math.log(-math.expm1(-epsilon)))
    return found

"""One step of an optimizer, as the mechanisms of one parameter see it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(eq=False)
class Moment:
    """One step for one parameter.

    Args:
        step: its number, from 0.
        gradient: what the optimizer was given, without a scaler's factor; in the layout of the weight.
        group: the optimizer's settings for the parameter.
        state: what the optimizer keeps of the parameter.
        before: the weight before the step, where a mechanism needs it afterwards; until the step is done, the
            weight itself.
        notes: what :meth:`Mechanism.prepare` found, by mechanism.
    """

    step: int
    gradient: torch.Tensor
    group: dict[str, Any]
    state: dict[str, Any]
    before: torch.Tensor
    notes: dict[str, Any] = field(default_factory=dict)

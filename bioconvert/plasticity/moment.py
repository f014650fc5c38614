"""One step of an optimizer, as the mechanisms of one parameter see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(eq=False)
class Moment:
    """One step for one parameter.

    Args:
        step: its number, from 0.
        gradient: what the optimizer was given, without a scaler's factor; ``None`` outside of a step.
        group: the optimizer's settings for the parameter, such as ``lr``.
        state: what the optimizer keeps of the parameter; empty before its first step.
        states: what the optimizer keeps of every parameter.
        before: the weight before the step: until the step is done the weight itself, afterwards a copy where
            a mechanism needs one.
        notes: what mechanisms found in ``prepare``, by name of the mechanism.
    """

    step: int
    gradient: torch.Tensor | None = None
    group: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    states: Mapping[torch.Tensor, dict[str, Any]] = field(default_factory=dict)
    before: torch.Tensor | None = None
    notes: dict[str, Any] = field(default_factory=dict)

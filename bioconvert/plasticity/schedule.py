"""When a mechanism acts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

Count = Annotated[int, Field(ge=0)]
Period = Annotated[int, Field(ge=1)]
Target = Literal["auto", "update", "gradient"]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The steps at which a mechanism acts, counted from 0 for the optimizer's first.

    Args:
        every: it acts at each of so many steps: at ``start + every - 1`` first.
        start: the first step of its time.
        stop: the first step after its time; ``None`` for no end.
        warmup: number of steps over which it comes to its full strength.
    """

    every: Period = 1
    start: Count = 0
    stop: Count | None = None
    warmup: Count = 0

    def is_due(self, step: int) -> bool:
        """Say whether it acts at a step."""
        if step < self.start or (self.stop is not None and step >= self.stop):
            return False
        return (step - self.start + 1) % self.every == 0

    def strength_at(self, step: int) -> float:
        """Give the share of its full strength that it has at a step, from 0 to 1."""
        return min(1.0, (step - self.start + 1) / (self.warmup + 1)) if self.warmup else 1.0

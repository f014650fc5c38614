"""What an experiment measures, and the bars that it is held against.

An experiment is a module with a docstring (question, set-up, bar), the number ``SEEDS`` that it is run with,
and ``run(settings)``, which gives its findings.
"""

from __future__ import annotations

import operator
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_RELATIONS: dict[str, Callable[[float, float], bool]] = {
    "≥": operator.ge,
    "≤": operator.le,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
    "±": lambda value, limit: abs(value) <= limit,
}


@dataclass(frozen=True)
class Settings:
    """How much is run.

    Args:
        seeds: number of repetitions, each with its own seed.
        quick: whether to take fewer steps, to see that it runs; bars may then be missed.
        first: the first of the seeds.
    """

    seeds: int
    quick: bool = False
    first: int = 0

    @property
    def each_seed(self) -> range:
        """The seeds."""
        return range(self.first, self.first + self.seeds)


@dataclass(frozen=True)
class Bar:
    """What a value must be.

    Args:
        relation: ``≥``, ``≤``, ``<``, ``>``, ``=``, or ``±`` for a value that is at most so far from 0.
        limit: the value's bound.
    """

    relation: str
    limit: float

    def __post_init__(self):
        if self.relation not in _RELATIONS:
            raise ValueError(f"relation must be one of {' '.join(_RELATIONS)}, got {self.relation!r}")

    def __str__(self) -> str:
        return f"{self.relation} {self.limit:g}"

    def met_by(self, value: float) -> bool:
        """Say whether a value meets the bar; NaN never does."""
        return _RELATIONS[self.relation](value, self.limit)


@dataclass(frozen=True)
class Finding:
    """One measured value.

    Args:
        what: what was measured, in words.
        values: the value of each seed, or the only one; their mean counts.
        bar: what the mean must be; ``None`` for a value that stands there for comparison.
        null: whether meeting the bar means that nothing was found.
    """

    what: str
    values: Sequence[float]
    bar: Bar | None = None
    null: bool = False

    @property
    def mean(self) -> float:
        """The mean over the seeds."""
        return statistics.fmean(self.values)

    @property
    def met(self) -> bool:
        """Whether the bar is met; a value without a bar has none to miss."""
        return self.bar is None or self.bar.met_by(self.mean)

    @property
    def verdict(self) -> str:
        """The outcome, in words."""
        if self.bar is None:
            return ""
        if not self.met:
            return "missed"
        return "null result" if self.null else "met"

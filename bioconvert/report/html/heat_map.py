"""What plasticity noted of each weight while it was trained: one map for each number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from bioconvert.report.text import short

MAPS, WEIGHTS, STEPS, _NUMBERS = 5, 40, 48, 20
"""Numbers, weights and steps that are shown at most; steps are spread over the whole."""


@dataclass(frozen=True, slots=True)
class HeatMap:
    """One number of many weights over the steps of training.

    Args:
        number: what it is.
        weights: names of the weights, a row each.
        steps: the steps, a column each.
        values: row by row; ``None`` where nothing was noted.
        low: least of all values.
        high: greatest of all values.
        left_out: weights that are not shown.
    """

    number: str
    weights: tuple[str, ...]
    steps: tuple[int, ...]
    values: tuple[tuple[float | None, ...], ...]
    low: float
    high: float
    left_out: int


def heat_maps_of(notes: Sequence[Mapping[str, Any]]) -> tuple[HeatMap, ...]:
    """Make the maps of a history of plasticity.

    Args:
        notes: those of ``History.to_dict``: each with its ``step``, ``parameter`` and ``numbers``.
    """
    names = list(dict.fromkeys(name for note in notes for name in note["numbers"]))[:_NUMBERS]
    maps = [_map(name, notes) for name in names]
    # A number that never changes takes a line, not a map; the first that do change get one.
    return tuple(sorted(maps, key=lambda found: found.low == found.high)[:MAPS])


def _map(name: str, notes: Iterable[Mapping[str, Any]]) -> HeatMap:
    found: dict[str, dict[int, float]] = {}
    for note in notes:
        value = note["numbers"].get(name)
        if value is not None and isfinite(value):
            found.setdefault(note["parameter"], {})[int(note["step"])] = float(value)
    steps = _spread(sorted({step for row in found.values() for step in row}))
    rows = dict(list(found.items())[:WEIGHTS])
    values = tuple(tuple(row.get(step) for step in steps) for row in rows.values())
    known = [value for row in values for value in row if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    return HeatMap(
        short(name), tuple(map(short, rows)), tuple(steps), values, low, high, len(found) - len(rows)
    )


def _spread(steps: list[int]) -> list[int]:
    if len(steps) <= STEPS:
        return steps
    return [steps[round(at * (len(steps) - 1) / (STEPS - 1))] for at in range(STEPS)]

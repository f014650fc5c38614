"""Parameters and bytes of each module before and after, modules that are alike as one row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bioconvert.report.fold import fold
from bioconvert.report.text import short

if TYPE_CHECKING:
    from bioconvert.surgery.costs import CostChange, Costs

ROWS = 80
"""Of the table at most: those with most bytes."""


@dataclass(frozen=True, slots=True)
class SizeRow:
    """Modules of one class and size.

    Args:
        paths: their names as one.
        count: how many.
        was: class before.
        now: class after.
        parameters: number of values in parameters of all of them, before and after.
        nbytes: bytes of parameters and buffers of all of them, before and after.
    """

    paths: str
    count: int
    was: str
    now: str
    parameters: tuple[int, int]
    nbytes: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a model holds.

    Args:
        rows: its modules, in its order.
        left_out: rows that are not shown, the smallest.
        parameters: of the whole model, before and after.
        nbytes: likewise.
        flops: floating-point operations of a call, likewise; ``None`` where not known.
        unknown: why they aren't known.
        after_known: whether what is given as after is known, and not what was before once more.
    """

    rows: tuple[SizeRow, ...]
    left_out: int
    parameters: tuple[int, int]
    nbytes: tuple[int, int]
    flops: tuple[int, int] | None
    unknown: str
    after_known: bool


def sizes_of(costs: CostChange) -> Sizes:
    """Say what a model holds before and after."""
    before, after = costs.before, costs.before if costs.after is None else costs.after
    rows = list(_rows(before, after))
    largest = sorted(rows, key=lambda row: -max(row.nbytes))[:ROWS]
    kept = {id(row) for row in largest}
    known = before.flops is not None and after.flops is not None
    return Sizes(
        tuple(row for row in rows if id(row) in kept),
        len(rows) - len(kept),
        (before.parameters, after.parameters),
        (before.nbytes, after.nbytes),
        (before.flops or 0, after.flops or 0) if known else None,
        costs.unknown,
        costs.after is not None,
    )


def _rows(before: Costs, after: Costs) -> Iterable[SizeRow]:
    old, new = ({module.path: module for module in costs.modules} for costs in (before, after))
    groups: dict[tuple[str, str, tuple[int, int], tuple[int, int]], list[str]] = {}
    for path in dict.fromkeys((*old, *new)):
        was, now = old.get(path), new.get(path)
        parameters = (was.parameters if was else 0, now.parameters if now else 0)
        nbytes = (was.nbytes if was else 0, now.nbytes if now else 0)
        if any(nbytes):
            kinds = (was.kind if was else "", now.kind if now else "")
            groups.setdefault((*kinds, parameters, nbytes), []).append(path)
    for (was_kind, now_kind, parameters, nbytes), paths in groups.items():
        for folded in fold(paths):
            count = len(folded.names)
            yield SizeRow(
                short(folded.text) or "(the model)",
                count,
                short(was_kind),
                short(now_kind),
                (count * parameters[0], count * parameters[1]),
                (count * nbytes[0], count * nbytes[1]),
            )

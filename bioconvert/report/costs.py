"""Parameters, bytes and operations before and after, as a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from bioconvert.report.tables import plain_table
from bioconvert.report.text import amount, printable, size

if TYPE_CHECKING:
    from bioconvert.surgery.costs import CostChange

_TOTALS = (
    ("parameters", "parameters", amount),
    ("memory", "nbytes", size),
    ("FLOPs of a call", "flops", amount),
)
_UNKNOWN = "not known"
_LITTLE = 1e-4
_MUCH = 2.0
"""From this factor on, a change is said as a factor."""


class RowCosts:
    """The parameters of modules with all that is in them, before and after.

    Args:
        costs: those of the whole model; ``None`` where they aren't known.
    """

    def __init__(self, costs: CostChange | None):
        self.known = costs is not None and costs.after is not None
        self._before = {} if costs is None else costs.before.subtotals()
        self._after = {} if costs is None or costs.after is None else costs.after.subtotals()

    def said(self, paths: Iterable[str]) -> str:
        """Say how many parameters some modules have, and how many more or fewer they are to have."""
        known = [path for path in paths if path in self._before or path in self._after]
        before, after = (sum(t.get(p, (0, 0))[0] for p in known) for t in (self._before, self._after))
        if not known:
            return ""
        return amount(before) if before == after else f"{amount(before)} {_signed(after - before)}"


def costs_table(costs: CostChange) -> Iterator[RenderableType]:
    """Show what the whole model costs before and after, and how much that differs."""
    table = plain_table()
    for title in ("", "before", "after", "change"):
        table.add_column(title, justify="right" if title else "left", no_wrap=True)
    for title, name, said in _TOTALS:
        before: int | None = getattr(costs.before, name)
        after: int | None = None if costs.after is None else getattr(costs.after, name)
        if before is not None:
            table.add_row(title, *_compared(before, after, said))
    yield table
    unknown = costs.unknown
    if unknown:
        yield Text(printable(f"FLOPs of a call: {unknown}"), style="dim")


def change(before: int, after: int) -> str:
    """Say by how much a number differs from another, in percent or, where it is much, as a factor."""
    if before == after:
        return "same"
    if before == 0:
        return "new"
    ratio = after / before
    if abs(ratio - 1) < _LITTLE:
        return "+0.01% or less" if ratio > 1 else "−0.01% or less"
    return f"{ratio:.1f}×" if ratio >= _MUCH else f"{ratio - 1:+.2%}"


def _compared(before: int, after: int | None, said: Callable[[int], str]) -> tuple[str, str, str]:
    if after is None:
        return said(before), _UNKNOWN, ""
    return said(before), said(after), change(before, after)


def _signed(count: int) -> str:
    return f"+{amount(count)}" if count > 0 else f"−{amount(-count)}"

"""The differences of two checkpoints as tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from bioconvert.report.fold import fold
from bioconvert.report.tables import left_out, plain_table
from bioconvert.report.text import one_line, plural, short

_SHOWN = 30
"""Rows of each table without ``--all``."""


@dataclass(frozen=True, slots=True)
class Section:
    """Some differences of one kind.

    Args:
        title: what is counted, in the singular, as ``"tensor only in A"``.
        many: the same in the plural.
        columns: titles of the columns behind the name.
        cells: what is said of each name.
    """

    title: str
    many: str
    columns: tuple[str, ...]
    cells: Mapping[str, tuple[str, ...]]


def sections(found: Iterable[Section], *, every: bool) -> Iterator[RenderableType]:
    """Show differences, those of names that fare alike in one row.

    Args:
        found: the differences by kind.
        every: one row for each name; otherwise long tables end early.
    """
    for section in found:
        if section.cells:
            yield Text(plural(len(section.cells), section.title, section.many), style="bold")
            rows = _rows(section.cells, every=every)
            shown = rows if every else rows[:_SHOWN]
            yield _table(section.columns, shown)
            if len(shown) < len(rows):
                yield left_out(len(rows) - len(shown), "row")
            yield Text()


def _rows(cells: Mapping[str, tuple[str, ...]], *, every: bool) -> list[tuple[str, ...]]:
    if every:
        return [(name or "(the model)", *said) for name, said in cells.items()]
    alike: dict[tuple[str, ...], list[str]] = {}
    for name, said in cells.items():
        alike.setdefault(said, []).append(name or "(the model)")
    return [(folded.text, *said) for said, names in alike.items() for folded in fold(names)]


def _table(columns: Sequence[str], rows: Iterable[tuple[str, ...]]) -> Table:
    table = plain_table()
    table.add_column("name", overflow="fold", style="cyan")
    for title in columns:
        table.add_column(title, overflow="fold")
    for name, *said in rows:
        table.add_row(short(name), *(Text(one_line(cell)) for cell in said))
    return table

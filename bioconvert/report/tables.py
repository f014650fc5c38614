"""The one look that all tables have, and the texts they share."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from bioconvert.report.text import one_line, plural

_NAMED = 3


def plain_table(*, header: bool = True) -> Table:
    """Make a table without lines, which copies well and fits in 80 columns."""
    return Table(box=None, pad_edge=False, show_header=header, header_style="bold", padding=(0, 2, 0, 0))


def left_out(count: int, noun: str) -> Text:
    """Say that a table could go on."""
    return Text(f"… and {plural(count, f'more {noun}')} (--all shows each)", style="dim")


def facts(lines: Mapping[str, str]) -> Table:
    """Show what is known of one thing, a line each."""
    table = plain_table(header=False)
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for name, value in lines.items():
        table.add_row(name, Text(one_line(value)))
    return table


def told(non_finite: Mapping[str, int]) -> str:
    """Say how many values are NaN or infinite: ``4 values of head.bias``."""
    names = ", ".join(list(non_finite)[:_NAMED])
    more = f" and {len(non_finite) - _NAMED:,} more tensors" if len(non_finite) > _NAMED else ""
    return f"{plural(sum(non_finite.values()), 'value')} of {names}{more}"

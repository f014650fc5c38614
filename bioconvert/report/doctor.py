"""The findings of ``bioconvert doctor`` as a table."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from bioconvert.report.tables import plain_table
from bioconvert.report.text import one_line


def findings_table(findings: Iterable[tuple[str, str, bool, str, str]]) -> Table:
    """Show findings, a line each: group, name, whether all right, value and advice."""
    table = plain_table(header=False)
    table.add_column(no_wrap=True)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold", max_width=26)
    table.add_column(overflow="fold")
    before = ""
    for group, name, ok, value, advice in findings:
        told = Text(one_line(value))
        if advice:
            told.append(f"\n→ {one_line(advice)}", style="yellow")
        mark = Text("ok", style="green") if ok else Text("warn", style="bold yellow")
        table.add_row(mark, "" if group == before else group, Text(one_line(name)), told)
        before = group
    return table

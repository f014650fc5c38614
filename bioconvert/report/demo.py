"""What the demo shows besides the answers of the commands that it runs."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from bioconvert.report.tables import plain_table
from bioconvert.report.text import one_line

_WIDTH = 78
"""Of a command line before it is continued: the backslash and a space fit in 80 columns."""


def prompt(command: str) -> Text:
    """Show a command line as one would type it, continued over several lines if it is long."""
    lines = textwrap.wrap(
        one_line(command),
        _WIDTH,
        initial_indent="$ ",
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return Text(" \\\n".join(lines), style="bold", no_wrap=True, overflow="ignore")


def accuracy_table(accuracies: Mapping[str, float]) -> Table:
    """Show what share of the test images each network gets right."""
    table = plain_table()
    table.add_column("network")
    table.add_column("accuracy", justify="right")
    for name, accuracy in accuracies.items():
        table.add_row(name, f"{accuracy:.1%}")
    return table

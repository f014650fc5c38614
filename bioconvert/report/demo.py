"""What the demo shows besides the answers of the commands that it runs."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from bioconvert.report.tables import plain_table
from bioconvert.report.text import one_line

_WIDTH = 78
"""Of a command line before it is continued: the backslash and a space fit in 80 columns."""


def prompt(words: Sequence[str]) -> Text:
    """Show a command as one would type it; a long one is continued on the next line, before an option."""
    lines = ["$"]
    for part in _options(words):
        if len(lines[-1]) + 1 + len(part) > _WIDTH:
            lines.append("   ")
        lines[-1] += f" {part}"
    return Text(" \\\n".join(lines), style="bold", no_wrap=True, overflow="ignore")


def _options(words: Sequence[str]) -> list[str]:
    """Quote the words for a shell, each option with its value."""
    parts: list[str] = []
    for word in words:
        if parts and parts[-1].startswith("--") and " " not in parts[-1]:
            parts[-1] += f" {one_line(shlex.quote(word))}"
        else:
            parts.append(one_line(shlex.quote(word)))
    return parts


def accuracy_table(accuracies: Mapping[str, float], images: int) -> Table:
    """Show what share of some test images each network gets right."""
    table = plain_table()
    table.add_column("network")
    table.add_column(f"right on {images:,} new images", justify="right")
    for name, accuracy in accuracies.items():
        table.add_row(name, f"{accuracy:.1%}")
    return table

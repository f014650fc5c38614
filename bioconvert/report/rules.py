"""The rule sets that there are, as a table."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from bioconvert.report.tables import plain_table
from bioconvert.report.text import one_line


def rule_sets_table(descriptions: Mapping[str, str]) -> Table:
    """List rule sets by name with their descriptions."""
    table = plain_table()
    table.add_column("name", overflow="fold", style="cyan")
    table.add_column("description", overflow="fold")
    for name, description in descriptions.items():
        table.add_row(Text(one_line(name)), Text(one_line(description)))
    return table

"""What a conversion did, in a few lines: how many modules of which class became what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from bioconvert.core.results import Applied, Outcomes
from bioconvert.report.reasons import with_containers, without_container
from bioconvert.report.tables import plain_table
from bioconvert.report.text import one_line

_CALL = "(a call)"
PARAMETER = "(a parameter)"
"""Stands where the class of a module would, for a rule that names parameters."""
_LEFT = {"replace": "left as it is"}


@dataclass(frozen=True, slots=True)
class Line:
    """Modules that fared alike.

    Args:
        count: how many.
        was: their class before.
        becomes: their class now, or what was done to them.
        reason: why nothing was done; empty where something was.
    """

    count: int
    was: str
    becomes: str
    reason: str = ""


def summary_lines(report: Outcomes, before: Mapping[str, str], after: Mapping[str, str]) -> tuple[Line, ...]:
    """Count what became of the modules.

    Args:
        report: what was done.
        before: class names by module path, before.
        after: class names by module path, afterwards.
    """
    applied = Counter(_became(outcome, before, after) for outcome in report.applied)
    skipped: dict[tuple[str, str, str], list[str]] = {}
    for outcome in report.skipped:
        reason, container = without_container(outcome.path, outcome.reason)
        was = before.get(outcome.path, _CALL)
        skipped.setdefault((was, outcome.action, reason), []).append(container)
    return (
        *(Line(count, was, becomes) for (was, becomes), count in applied.items()),
        *(
            Line(len(found), was, _LEFT.get(action, f"no {action}"), with_containers(reason, found))
            for (was, action, reason), found in skipped.items()
        ),
    )


def summary_table(lines: tuple[Line, ...]) -> Table:
    """Show the lines of a conversion."""
    table = plain_table()
    table.add_column("", justify="right")
    titles = ("class", "becomes", "because") if any(line.reason for line in lines) else ("class", "becomes")
    for title in titles:
        table.add_column(title, overflow="fold")
    for line in lines:
        cells = (f"{line.count:,}", line.was, line.becomes, line.reason)[: 1 + len(titles)]
        table.add_row(*map(_cell, cells), style="dim" if line.reason else None)
    return table


def _became(outcome: Applied, before: Mapping[str, str], after: Mapping[str, str]) -> tuple[str, str]:
    was, now = before.get(outcome.path, _CALL), after.get(outcome.path, _CALL)
    return was, now if outcome.action == "replace" and now != was else outcome.action


def _cell(text: str) -> Text:
    return Text(one_line(text))

"""An organism in a terminal: its nodes, and what happened last."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from bioconvert.organism.status import status_cells, summary
from bioconvert.report.tables import plain_table
from bioconvert.report.text import one_line, plural, short

_SHOWN = 30
"""Nodes without ``every``: one screen."""
_EVENTS = 5
_NUMBERS = ("age", "parameters", "gate")


def print_organism(organism: Any, *, console: Console | None = None, every: bool = False) -> None:
    """Print the nodes of an organism and its latest events.

    Args:
        organism: an ``Organism``.
        console: where to; by default the standard output.
        every: all nodes and events; otherwise long tables end early.
    """
    console = Console(highlight=False) if console is None else console
    parts = organism_tables(organism.status(), organism.step, organism.history, every=every)
    for part in parts:
        console.print(part)


def organism_tables(
    rows: Iterable[Mapping[str, Any]],
    step: int,
    history: Sequence[Mapping[str, Any]] = (),
    *,
    every: bool = False,
) -> Iterator[RenderableType]:
    """Show an organism.

    Args:
        rows: those of :meth:`Organism.status`.
        step: the step they are of.
        history: the events; the latest are shown.
        every: all nodes and events.
    """
    rows = list(rows)
    yield Text(summary(rows, step), style="bold")
    shown = rows if every else rows[:_SHOWN]
    yield _nodes(shown)
    if len(shown) < len(rows):
        yield Text(f"… and {plural(len(rows) - len(shown), 'more node')}", style="dim")
    if history:
        yield Text()
        yield Text(
            "what happened" if every or len(history) <= _EVENTS else "what happened last", style="bold"
        )
        yield _events(history if every else history[-_EVENTS:])


def _nodes(rows: Iterable[Mapping[str, Any]]) -> Table:
    table = plain_table()
    table.add_column("node", overflow="fold", style="cyan", min_width=8)
    table.add_column("tag", overflow="fold")
    for title in _NUMBERS:
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("state", overflow="fold", min_width=6)
    for row in rows:
        name, tag, *rest = status_cells(row)
        style = None if row["active"] and not row["frozen"] else "dim"
        table.add_row(Text(short(name)), Text(one_line(tag)), *map(Text, rest), style=style)
    return table


def _events(history: Iterable[Mapping[str, Any]]) -> Table:
    table = plain_table(header=False)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for event in history:
        table.add_row(f"{event['step']:,}", Text(one_line(_said(event))))
    return table


def _said(event: Mapping[str, Any]) -> str:
    if event["event"] == "freeze":
        return f"only {', '.join(event['learning'])} learns on"
    named = f" {event['node']}" if "node" in event else ""
    tag = f", {event['tag']}" if "tag" in event else ""
    total = f", {plural(event['parameters'], 'parameter')} now" if "parameters" in event else ""
    return f"{event['event']}{named}{tag}{total}"

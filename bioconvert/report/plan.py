"""A plan as tables: what is applied how, what is skipped why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from bioconvert.core.results import Outcome, Outcomes
from bioconvert.report.costs import RowCosts, costs_table
from bioconvert.report.fold import fold
from bioconvert.report.reasons import with_containers, without_container
from bioconvert.report.tables import left_out, plain_table
from bioconvert.report.text import one_line, plural, printable, short

if TYPE_CHECKING:
    from bioconvert.surgery.costs import CostChange

_FEW = 5
"""Containers without a graph that are shown without ``--all``."""
_SHOWN = 30
"""Rows of each table without ``--all``: two screens at most."""
_MODEL = "(the model)"


@dataclass(frozen=True, slots=True)
class _Row:
    path: str
    rule: str
    action: str
    reason: str
    parameters: str = ""


def plan_tables(
    plan: Outcomes, *, costs: CostChange | None = None, every: bool = False
) -> Iterator[RenderableType]:
    """Show a plan or a report.

    Args:
        plan: what is, or would be, done.
        costs: what the model costs before and after, if that was found out.
        every: one row for each module; otherwise those that fare alike share one, and long tables end early.
    """
    rules = {outcome.rule for outcome in plan.outcomes}
    own = RowCosts(costs)
    yield from _section("to change", plan.applied, own, with_rule=len(rules) > 1, every=every)
    if plan.skipped:
        yield Text()
        left = RowCosts(None)
        yield from _section("to leave as they are", plan.skipped, left, with_rule=len(rules) > 1, every=every)
    yield from _untraceable(getattr(plan, "untraceable", {}), every=every)
    if costs is not None:
        yield Text()
        yield from costs_table(costs)
    for warning in plan.warnings:
        yield Text()
        yield Text(f"warning: {printable(warning)}", style="yellow")


def _untraceable(containers: Mapping[str, str], *, every: bool) -> Iterator[RenderableType]:
    """Show of which containers there is no graph, so that the data flow in them isn't known."""
    if not containers:
        return
    yield Text()
    yield Text(f"{plural(len(containers), 'container')} without a graph", style="bold")
    groups: dict[str, list[str]] = {}
    for name, reason in containers.items():
        groups.setdefault(reason, []).append(_place(name))
    rows = [(folded.text, reason) for reason, names in groups.items() for folded in fold(names)]
    shown = rows if every else rows[:_FEW]
    table = plain_table()
    table.add_column("path", overflow="fold", style="cyan")
    table.add_column("why", overflow="fold", min_width=24)
    for path, reason in shown:
        table.add_row(Text(short(path)), Text(one_line(reason)))
    yield table
    if len(shown) < len(rows):
        yield left_out(len(rows) - len(shown), "row")


def _section(
    title: str, outcomes: Sequence[Outcome], costs: RowCosts, *, with_rule: bool, every: bool
) -> Iterator[RenderableType]:
    yield Text(f"{plural(len(outcomes), 'place')} {title}", style="bold")
    rows = list(_rows(outcomes, costs, every=every))
    shown = rows if every else rows[:_SHOWN]
    if shown:
        yield _table(shown, with_rule=with_rule, with_costs=costs.known)
    if len(shown) < len(rows):
        yield left_out(len(rows) - len(shown), "row")


def _rows(outcomes: Sequence[Outcome], costs: RowCosts, *, every: bool) -> Iterator[_Row]:
    if every:
        yield from (_Row(_place(o.path), o.rule, o.action, o.reason, costs.said([o.path])) for o in outcomes)
        return
    groups: dict[tuple[str, str, str], dict[str, str]] = {}
    for outcome in outcomes:
        reason, container = without_container(outcome.path, outcome.reason)
        alike = groups.setdefault((outcome.rule, outcome.action, reason), {})
        alike[_place(outcome.path)] = container
    for (rule, action, reason), containers in groups.items():
        for folded in fold(containers):
            named = with_containers(reason, (containers[name] for name in folded.names))
            paths = ["" if name == _MODEL else name for name in folded.names]
            yield _Row(folded.text, rule, action, named, costs.said(paths))


def _place(path: str) -> str:
    return path or _MODEL


def _table(rows: Iterable[_Row], *, with_rule: bool, with_costs: bool) -> Table:
    table = plain_table()
    table.add_column("path", overflow="fold", style="cyan")
    if with_rule:
        table.add_column("rule", overflow="fold")
    table.add_column("what", overflow="fold")
    if with_costs:
        table.add_column("parameters", overflow="fold")
    table.add_column("how or why", overflow="fold", min_width=24)
    for row in rows:
        rule = (row.rule,) if with_rule else ()
        own = (row.parameters,) if with_costs else ()
        cells = (short(row.path), *map(one_line, (*rule, row.action, *own, row.reason)))
        table.add_row(*map(Text, cells))
    return table

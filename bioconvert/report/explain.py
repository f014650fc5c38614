"""What rules make of some modules, and why, as text and tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bioconvert.report.fold import fold
from bioconvert.report.reasons import without_container
from bioconvert.report.tables import left_out, plain_table
from bioconvert.report.text import one_line, plural, printable, shape, short

if TYPE_CHECKING:
    from bioconvert.ruleset.clauses import Clause
    from bioconvert.surgery.explain import Doing, Explanation, Verdict

_SHOWN = 10
"""Groups of modules that are shown without ``--all``."""


def explanation_parts(found: Iterable[Explanation], *, every: bool) -> Iterator[RenderableType]:
    """Show what rules make of modules.

    Args:
        found: an explanation of each.
        every: each module by itself; otherwise those that fare alike are explained once, and rules whose
            type already doesn't fit are only named.
    """
    groups: dict[tuple[object, ...], list[Explanation]] = {}
    for each in found:
        groups.setdefault((each.path,) if every else _likeness(each), []).append(each)
    shown = list(groups.values())[: None if every else _SHOWN]
    for group in shown:
        yield _heading(group)
        yield from _verdicts(group[0], every=every)
        yield Text()
    if len(shown) < len(groups):
        yield left_out(len(groups) - len(shown), "kind of module")


def _likeness(explained: Explanation) -> tuple[object, ...]:
    """Give what modules that fare alike have in common: all but the names that conditions were tried on."""
    return (explained.kind, *(_fate(verdict, explained.path) for verdict in explained.verdicts))


def _fate(verdict: Verdict, path: str) -> tuple[object, ...]:
    if _other_type(verdict):
        return (verdict.rule,)
    conditions = ((c.key, c.holds, c.found.replace(path, "") if path else c.found) for c in verdict.clauses)
    doings = ((*without_container(path, doing.how), repr(replace(doing, how=""))) for doing in verdict.doings)
    return (verdict.rule, *conditions, *((how, rest) for how, _, rest in doings))


def _heading(group: list[Explanation]) -> Text:
    names = ", ".join(folded.text for folded in fold(each.path or "(the model)" for each in group))
    text = Text(short(names), style="bold cyan")
    return text.append(f"  {group[0].kind}", style="not bold")


def _verdicts(explained: Explanation, *, every: bool) -> Iterator[RenderableType]:
    others: list[str] = []
    for verdict in explained.verdicts:
        if not every and not verdict.selected and _other_type(verdict):
            others.append(verdict.rule)
            continue
        yield _inset(_rule_line(verdict), 2)
        yield _inset(_clause_table(verdict.clauses), 4)
        for doing in verdict.doings:
            yield from (_inset(part, 4) for part in _doing(doing))
    if others:
        told = f"{plural(len(others), 'rule')} for other types: {', '.join(dict.fromkeys(others))}"
        yield _inset(Text(one_line(told), style="dim"), 2)


def _other_type(verdict: Verdict) -> bool:
    return any(clause.key == "type" and not clause.holds for clause in verdict.clauses)


def _rule_line(verdict: Verdict) -> Text:
    text = Text(f"rule {one_line(verdict.rule)}: ", style="bold")
    return text.append("selects it" if verdict.selected else "does not select it", style="not bold")


def _clause_table(clauses: Iterable[Clause]) -> Table:
    table = plain_table(header=False)
    for _ in range(4):
        table.add_column(overflow="fold")
    for clause in clauses:
        mark = Text("met", style="green") if clause.holds else Text("not", style="red")
        table.add_row(mark, Text(one_line(clause.key)), *map(_cell, (clause.wanted, clause.found)))
    return table


def _doing(doing: Doing) -> Iterator[RenderableType]:
    line = Text(f"{doing.action}: ", style="bold" if doing.applied else "")
    yield line.append(printable(doing.how if doing.applied else f"no, {doing.how}"), style="not bold")
    if not doing.applied:
        return
    told = {"options": _options(doing.options), "new": _tensors(doing.adds)}
    told |= {"warning": "; ".join(doing.warnings)}
    table = plain_table(header=False)
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for name, value in told.items():
        if value:
            table.add_row(name, _cell(value))
    if table.row_count:
        yield _inset(table, 2)


def _options(options: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in options.items())


def _value(value: object) -> str:
    return value if isinstance(value, str) and value else json.dumps(value, default=str)


def _tensors(adds: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {shape(sizes) or 'scalar'}" for name, sizes in adds.items())


def _cell(text: str) -> Text:
    return Text(one_line(text))


def _inset(part: RenderableType, by: int) -> Padding:
    return Padding(part, (0, 0, 0, by))

"""Which rule did what to which modules, and what it left alone and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bioconvert.core.results import Applied, Outcome, Outcomes
from bioconvert.report.fold import fold
from bioconvert.report.reasons import with_containers, without_container
from bioconvert.report.text import one_line, short

ROWS = 120
"""Of each table at most."""
CELLS = 400
"""Of a strip at most; beyond that, neighbouring modules share one."""
_REASON = 600
"""Characters of a reason at most."""


@dataclass(frozen=True, slots=True)
class Row:
    """Modules that fared alike.

    Args:
        paths: their names as one.
        count: how many.
        rule: name of the rule.
        action: what was done or asked for.
        reason: how it was done, or why not.
    """

    paths: str
    count: int
    rule: str
    action: str
    reason: str


@dataclass(frozen=True, slots=True)
class RuleStrip:
    """What one rule did along the model.

    Args:
        rule: name of the rule.
        applied: number of modules that it changed.
        skipped: number of modules that it left alone.
        cells: for each module in the model's order ``"a"`` (applied), ``"s"`` (skipped) or ``"."``.
    """

    rule: str
    applied: int
    skipped: int
    cells: str


@dataclass(frozen=True, slots=True)
class Coverage:
    """What the rules did.

    Args:
        modules: number of modules that a cell or a part of one stands for.
        strips: one for each rule.
        applied: what was changed.
        skipped: what was left alone.
        more_applied: rows that are not shown.
        more_skipped: likewise.
        warnings: what to know of it.
        note: likewise.
    """

    modules: int
    strips: tuple[RuleStrip, ...]
    applied: tuple[Row, ...]
    skipped: tuple[Row, ...]
    more_applied: int
    more_skipped: int
    warnings: tuple[str, ...]
    note: str


def coverage_of(outcomes: Outcomes, modules: Sequence[str], note: str = "") -> Coverage:
    """Say what the rules did.

    Args:
        outcomes: what was done and what was not.
        modules: paths of the modules that a rule may be after, in the model's order.
        note: what to know of it.
    """
    applied, skipped = _rows(outcomes.applied), _rows(outcomes.skipped)
    order = list(modules)
    return Coverage(
        len(order),
        tuple(_strips(outcomes.outcomes, order)),
        tuple(applied[:ROWS]),
        tuple(skipped[:ROWS]),
        max(0, len(applied) - ROWS),
        max(0, len(skipped) - ROWS),
        tuple(_cut(warning) for warning in outcomes.warnings[:ROWS]),
        note,
    )


def _rows(outcomes: Iterable[Outcome]) -> list[Row]:
    groups: dict[tuple[str, str, str], dict[str, str]] = {}
    for outcome in outcomes:
        reason, container = without_container(outcome.path, outcome.reason)
        groups.setdefault((outcome.rule, outcome.action, reason), {})[outcome.path] = container
    return [
        Row(
            short(folded.text) or "(the model)",
            len(folded.names),
            short(rule),
            short(action),
            _cut(with_containers(reason, (containers[name] for name in folded.names))),
        )
        for (rule, action, reason), containers in groups.items()
        for folded in fold(containers)
    ]


def _strips(outcomes: Iterable[Outcome], order: Sequence[str]) -> Iterable[RuleStrip]:
    by_rule: dict[str, dict[str, bool]] = {}
    for outcome in outcomes:
        fates = by_rule.setdefault(outcome.rule, {})
        fates[outcome.path] = fates.get(outcome.path, False) or isinstance(outcome, Applied)
    for rule, fates in list(by_rule.items())[:ROWS]:
        done = sum(fates.values())
        yield RuleStrip(short(rule), done, len(fates) - done, _cells(_of_modules(fates, order), order))


def _of_modules(fates: Mapping[str, bool], order: Sequence[str]) -> Mapping[str, bool]:
    """Lay what befell a parameter, which a rule may name, to its module."""
    modules, found = set(order), dict(fates)
    for path, done in fates.items():
        owner = path.rpartition(".")[0]
        if path not in modules and owner in modules:
            found[owner] = found.get(owner, False) or done
    return found


def _cells(fates: Mapping[str, bool], order: Sequence[str]) -> str:
    step = max(1, -(-len(order) // CELLS))
    cells = []
    for start in range(0, len(order), step):
        fates_here = (_fate(path, fates) for path in order[start : start + step])
        found = [fate for fate in fates_here if fate is not None]
        cells.append("a" if any(found) else "s" if found else ".")
    return "".join(cells)


def _fate(path: str, fates: Mapping[str, bool]) -> bool | None:
    """Give what befell a module, or the nearest module that it is in."""
    while path and path not in fates:
        path = path.rpartition(".")[0]
    return fates.get(path)


def _cut(text: str) -> str:
    text = one_line(text)
    return text if len(text) <= _REASON else f"{text[:_REASON]}…"

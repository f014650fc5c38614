"""Why a rule selects a module or not, condition by condition."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bioconvert.core.families import family_of
from bioconvert.core.functions import functions_in
from bioconvert.ruleset.comparison import Comparison
from bioconvert.ruleset.kinds import Kinds
from bioconvert.ruleset.match import Match
from bioconvert.ruleset.quoting import listed, shortened
from bioconvert.ruleset.selection import MISSING, Candidate, Selection, attribute, conditions

_WHERE = "where: "


@dataclass(frozen=True, slots=True)
class Clause:
    """One condition of a rule on one module.

    Args:
        key: the key of the match that it comes from, as ``"type"`` or ``"where: groups"``.
        holds: whether the module meets it.
        wanted: what the rule says.
        found: what the module has.
    """

    key: str
    holds: bool
    wanted: str
    found: str


def clauses(
    match: Match, candidate: Candidate, candidates: Sequence[Candidate], selected: Sequence[Selection]
) -> tuple[Clause, ...]:
    """Say of each condition of a match but ``followed_by`` whether a module meets it.

    They are the conditions by which :func:`select` selects.

    Args:
        match: the match.
        candidate: the module.
        candidates: every module of the model, as they were given to :func:`select`.
        selected: what the rule selected of the module.
    """
    found = [_type(match, candidate)] if match.type else []
    found += [
        Clause(condition.key, condition.test(candidate), *_told(match, condition.key, candidate))
        for condition in conditions(match, candidates)
    ]
    if match.parameter is not None:
        names = [selection.parameter for selection in selected]
        told = listed(names, "and") if names else "none of its own parameters is meant"
        found.append(Clause("parameter", bool(names), match.parameter, told))
    return tuple(found)


def _type(match: Match, candidate: Candidate) -> Clause:
    kinds, functions = Kinds(match), functions_in(match.type)
    calls = [name for name, function in candidate.functions().items() if function in functions]
    refusal = kinds.refusal(candidate.cls)
    meant = kinds.means(candidate.cls) and refusal is None
    told = refusal or f"it is a {candidate.cls.__name__}"
    if functions:
        told += (
            f", and calls one on {listed(calls, 'and')}" if calls else ", and calls none on its parameters"
        )
    return Clause("type", meant or bool(calls), listed(match.type), told)


def _told(match: Match, key: str, candidate: Candidate) -> tuple[str, str]:
    name = next((name for name in candidate.names if name), "(the model)")
    if key == "path":
        return listed(match.path), f"it is {name}"
    if key == "not":
        return f"none of {listed(match.not_)}", f"it is {name}"
    if not key.startswith(_WHERE):
        family = family_of(candidate.cls) or candidate.cls.__name__
        return f"not the {key.removeprefix('not: ')} of its family", f"it is of {family!r}"
    attribute_name = key.removeprefix(_WHERE)
    return _wanted(match.where[attribute_name]), _value(attribute(candidate, attribute_name))


def _wanted(given: Iterable[Comparison]) -> str:
    return ", ".join(str(comparison).removeprefix("==") for comparison in given)


def _value(actual: object) -> str:
    if actual is MISSING:
        return "it has no such attribute"
    if actual is None or isinstance(actual, bool | str | int | float | list | tuple):
        return f"it is {shortened(repr(actual))}"
    return f"it is a {type(actual).__name__}"

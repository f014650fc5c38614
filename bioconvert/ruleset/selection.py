"""Which modules a rule selects. The graph that ``followed_by`` needs is not known here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from bioconvert.core.errors import Problem, RuleError
from bioconvert.core.families import family_of
from bioconvert.core.functions import functions_in
from bioconvert.ruleset.comparison import Comparison
from bioconvert.ruleset.kinds import Kinds
from bioconvert.ruleset.match import Match
from bioconvert.ruleset.patterns import SECONDS, Patterns, SlowPattern, deadline
from bioconvert.ruleset.quoting import shown
from bioconvert.ruleset.rule import Rule


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A module that a rule may select.

    Args:
        names: its dotted names, the canonical one first; the empty name is the model's.
        cls: the class to match by.
        module: the module, whose attributes ``where`` looks at.
        functions: gives the functions that are called on its own parameters, by the parameter's name.
    """

    names: tuple[str, ...]
    cls: type
    module: object
    functions: Callable[[], Mapping[str, str]] = dict


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """A module that a rule selects.

    Args:
        candidate: the module.
        refusal: why it must be left alone all the same; ``None`` if it needn't be.
        parameter: the module's own name of the parameter that is meant; empty where the module is.
    """

    candidate: Candidate
    refusal: str | None = None
    parameter: str = ""


MISSING = object()
"""Stands for an attribute that a module doesn't have."""
PARAMETER_FACTS = ("shape", "dtype", "ndim", "numel", "requires_grad")
"""What ``where`` asks of a parameter, in a rule that selects by ``parameter``, and not of its module."""
Test = Callable[[Candidate], bool]


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a match, as a test.

    Args:
        key: the key of the match that it comes from.
        test: whether a candidate meets it.
    """

    key: str
    test: Test


def select(rule: Rule, candidates: Sequence[Candidate]) -> list[Selection]:
    """Give the modules that meet every condition of a rule but ``followed_by``, in the order given.

    Args:
        rule: the rule.
        candidates: every module of the model, in execution order if that is known; ``first`` and ``last`` go
            by it.

    Raises:
        RuleError: a regular expression of the rule takes too long.
    """
    kinds, functions = Kinds(rule.match), functions_in(rule.match.type)
    try:
        left = _meeting(
            rule.match, candidates if functions else list(filter(kinds.meant, candidates)), candidates
        )
        meant = list(filter(kinds.meant, left)) if functions else left
        if rule.match.parameter is not None and not functions:
            return list(_by_parameter(rule.match, meant))
        calls = list(_calls(functions, rule.match.parameter, left)) if functions else []
    except SlowPattern as slow:
        raise RuleError([slow_pattern(rule, slow)]) from None
    return [*(Selection(candidate, kinds.refusal(candidate.cls)) for candidate in meant), *calls]


def _meeting(match: Match, left: Sequence[Candidate], candidates: Sequence[Candidate]) -> list[Candidate]:
    for condition in conditions(match, candidates):
        left = [candidate for candidate in left if condition.test(candidate)]
    return list(left)


def _calls(
    functions: frozenset[str], pattern: str | None, candidates: Iterable[Candidate]
) -> Iterator[Selection]:
    """Select the parameters that certain functions are called on."""
    patterns = Patterns((pattern,), deadline()) if pattern is not None else None
    for candidate in candidates:
        for name, function in candidate.functions().items():
            full = [f"{module}.{name}" if module else name for module in candidate.names]
            if function in functions and (patterns is None or patterns.match(full)):
                yield Selection(candidate, parameter=name)


def _by_parameter(match: Match, candidates: Iterable[Candidate]) -> Iterator[Selection]:
    """Select parameters by any of their names and by facts about them.

    A tied one is selected once, with the first module that holds it.
    """
    patterns = Patterns((match.parameter or "",), deadline())
    found: dict[int, tuple[Selection, object, list[str]]] = {}
    for candidate in candidates:
        for name, parameter in own_parameters(candidate):
            entry = found.setdefault(id(parameter), (Selection(candidate, parameter=name), parameter, []))
            entry[2].extend(f"{module}.{name}" if module else name for module in candidate.names)
    about = parameter_conditions(match)
    for selection, parameter, names in found.values():
        if patterns.match(names) and all(_fact_holds(parameter, *condition) for condition in about.items()):
            yield selection


def parameter_conditions(match: Match) -> Mapping[str, tuple[Comparison, ...]]:
    """Give the conditions of a match that are about parameters and not about the modules that hold them."""
    if match.parameter is None or functions_in(match.type):
        return {}
    return {name: given for name, given in match.where.items() if name in PARAMETER_FACTS}


def _fact_holds(parameter: object, fact: str, given: tuple[Comparison, ...]) -> bool:
    actual = parameter_fact(parameter, fact)
    return all(comparison.holds(actual) for comparison in given)


def parameter_fact(parameter: object, fact: str) -> object:
    """Give a fact about a parameter as a rule file writes it."""
    if fact == "numel":
        return math.prod(getattr(parameter, "shape", ()))
    found: object = getattr(parameter, fact, MISSING)
    if fact == "dtype":
        return str(found).removeprefix("torch.")
    return list(found) if isinstance(found, tuple) else found


def own_parameters(candidate: Candidate) -> list[tuple[str, object]]:
    """Give the parameters that a module holds itself, by name."""
    held = getattr(candidate.module, "_parameters", {})
    return [(name, parameter) for name, parameter in held.items() if parameter is not None]


def slow_pattern(rule: Rule, slow: SlowPattern) -> Problem:
    """Say that a regular expression takes too long."""
    return rule.problem(
        f"the pattern {shown(slow.pattern)} takes more than {SECONDS:g} s on this model's names; "
        "avoid repetitions within repetitions, or use globs"
    )


def conditions(match: Match, candidates: Sequence[Candidate]) -> list[Condition]:
    """Give the conditions of a match but for ``type`` and ``followed_by``."""
    until = deadline()
    found = []
    if match.path:
        found.append(Condition("path", partial(_named, Patterns(match.path, until))))
    about_parameters = parameter_conditions(match)
    found += [
        Condition(f"where: {name}", partial(_holds, name, given))
        for name, given in match.where.items()
        if name not in about_parameters
    ]
    if match.not_:
        found.append(Condition("not", partial(_not_named, Patterns(match.not_, until))))
    if match.not_first:
        found.append(Condition("not: first", _other_than(_ends(candidates))))
    if match.not_last:
        found.append(Condition("not: last", _other_than(_ends(reversed(candidates)))))
    return found


def _named(patterns: Patterns, candidate: Candidate) -> bool:
    return patterns.match(candidate.names)


def _not_named(patterns: Patterns, candidate: Candidate) -> bool:
    return not patterns.match(candidate.names)


def _holds(name: str, given: tuple[Comparison, ...], candidate: Candidate) -> bool:
    actual = attribute(candidate, name)
    return actual is not MISSING and all(comparison.holds(actual) for comparison in given)


def attribute(candidate: Candidate, name: str) -> object:
    """Read an attribute of a module; ``MISSING`` if it has none or it can't be read."""
    try:
        return getattr(candidate.module, name)
    except Exception:  # noqa: BLE001 - a property may raise anything
        return MISSING


def _other_than(ends: set[int]) -> Test:
    return lambda candidate: id(candidate) not in ends


def _ends(candidates: Iterable[Candidate]) -> set[int]:
    """Identify the candidates that come first of their family or, without one, of their class."""
    groups: dict[type, object] = {}
    first: dict[object, int] = {}
    for candidate in candidates:
        group = groups.get(candidate.cls)
        if group is None:
            group = groups[candidate.cls] = family_of(candidate.cls) or candidate.cls
        first.setdefault(group, id(candidate))
    return set(first.values())

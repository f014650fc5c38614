"""Why a rule matches nothing: which of its conditions leaves no module over, and what may have been meant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bioconvert.core.errors import Problem
from bioconvert.core.families import FAMILIES
from bioconvert.core.functions import functions_in
from bioconvert.core.suggest import hint, nearest
from bioconvert.ruleset.kinds import Kinds
from bioconvert.ruleset.match import Match
from bioconvert.ruleset.patterns import Patterns, SlowPattern, deadline
from bioconvert.ruleset.quoting import listed, shortened, shown
from bioconvert.ruleset.rule import Rule
from bioconvert.ruleset.selection import (
    MISSING,
    Candidate,
    attribute,
    conditions,
    own_parameters,
    parameter_conditions,
    parameter_fact,
    slow_pattern,
)

_COMPARED = 5_000
"""Names among which the nearest is looked for; more would take seconds."""


def no_match(rule: Rule, candidates: Sequence[Candidate]) -> Problem:
    """Say that a rule matches nothing, and why.

    Args:
        rule: the rule.
        candidates: every module of the model.
    """
    try:
        reason = _reason(rule, candidates)
    except SlowPattern as slow:
        return slow_pattern(rule, slow)
    return rule.problem(f"it matches nothing: {reason} (`optional: true` if that is all right)")


def _reason(rule: Rule, candidates: Sequence[Candidate]) -> str:
    match = rule.match
    kinds = Kinds(match)
    left = [candidate for candidate in candidates if kinds.means(candidate.cls)]
    functions = functions_in(match.type)
    if functions and not left:
        return f"no call of {listed(map(shown, sorted(functions)))} on a module's own parameter was found"
    if not left:
        return _no_such_type(match.type, candidates)
    for condition in conditions(match, candidates):
        before, left = left, [candidate for candidate in left if condition.test(candidate)]
        if left:
            continue
        if condition.key == "path":
            return _no_such_path(match.path, before, typed=bool(match.type))
        return _excluded(condition.key, before)
    if match.parameter is not None:
        return _no_such_parameter(match, left)
    if match.followed_by:
        pattern = ", then ".join(map(str, match.followed_by))
        return f"of {_modules(left)} that meet the rest, none is followed by {pattern}"
    return f"{_modules(left)} meet its conditions, and none was changed"


def _no_such_type(types: Sequence[str], candidates: Sequence[Candidate]) -> str:
    if not candidates:
        return "the model has no modules"
    known = {candidate.cls.__name__ for candidate in candidates}
    wanted = listed(map(shown, types))
    unknown = next((name for name in types if name not in FAMILIES), None)
    if unknown is None:
        return f"the model has no {wanted} modules. Its modules are: {_some(sorted(known), 12)}"
    return f"the model has no {wanted} modules. {hint(unknown.rpartition('.')[2], known | set(FAMILIES))}"


def _no_such_path(paths: Sequence[str], before: Sequence[Candidate], *, typed: bool) -> str:
    known = [name for candidate in before for name in candidate.names if name][:_COMPARED]
    guess = nearest(paths[0].removeprefix("re:"), known)
    of_type = " of that type" if typed else ""
    near = guess if guess is not None else next(iter(known), None)
    example = (
        f"; the nearest name is {near!r}" if guess is not None else f"; a name is {near!r}" if near else ""
    )
    return f"of {_modules(before)}{of_type}, none is named {listed(map(shown, paths))}{example}"


def _no_such_parameter(match: Match, candidates: Sequence[Candidate]) -> str:
    pattern = match.parameter or ""
    parameters = {
        f"{candidate.names[0]}.{name}" if candidate.names[0] else name: parameter
        for candidate in candidates
        for name, parameter in own_parameters(candidate)
    }
    if not parameters:
        return f"{_modules(candidates)} meet the rest, and none of them holds a parameter"
    patterns = Patterns((pattern,), deadline())
    named = [parameter for name, parameter in parameters.items() if patterns.match([name])]
    if named:
        seen = dict.fromkeys(_facts(parameter, parameter_conditions(match)) for parameter in named)
        return f"no parameter named {shown(pattern)} meets the conditions; found: {_some(list(seen))}"
    known = list(parameters)[:_COMPARED]
    guess = nearest(pattern.removeprefix("re:"), known)
    example = f"the nearest name is {guess!r}" if guess is not None else f"a name is {known[0]!r}"
    return f"no parameter is named {shown(pattern)}; {example}"


def _facts(parameter: object, names: Iterable[str]) -> str:
    return ", ".join(f"{name} {_described(parameter_fact(parameter, name))}" for name in names)


def _excluded(key: str, before: Sequence[Candidate]) -> str:
    name = key.removeprefix("where: ")
    if name == key:
        return f"`{key}` excepts all that is left ({_modules(before)})"
    values = [value for value in (attribute(candidate, name) for candidate in before) if value is not MISSING]
    if not values:
        guess = nearest(name, {known for candidate in before for known in dir(candidate.module)})
        meant = f"; did you mean {guess!r}?" if guess is not None else ""
        return f"of {_modules(before)}, none has an attribute {shown(name)}{meant}"
    seen = list(dict.fromkeys(map(_described, values)))
    return f"of {_modules(before)}, none meets the condition on {name}; found: {_some(seen)}"


def _described(value: object) -> str:
    if value is None or isinstance(value, str | int | float | list | tuple):
        return "nothing" if value is None else shortened(repr(value))
    return f"a {type(value).__name__}"


def _some(values: Sequence[str], most: int = 4) -> str:
    return ", ".join(values[:most]) + (", …" if len(values) > most else "")


def _modules(candidates: Sequence[Candidate]) -> str:
    return "1 module" if len(candidates) == 1 else f"{len(candidates):,} modules"

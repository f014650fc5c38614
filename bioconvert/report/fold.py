"""Dotted names that differ in numbers alone, written as one: ``layer{1..4}.{0,1}.conv1``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_NUMBER = re.compile(r"(\d+)")
_DIGITS = 9
_RUN = 3
"""From this many on, neighbours are written as a range."""

_Part = str | tuple[int, ...]
_Pattern = tuple[_Part, ...]


@dataclass(frozen=True, slots=True)
class Folded:
    """Some names as one.

    Args:
        text: the name with its numbers in braces.
        names: the names that it stands for, the first that appeared first.
    """

    text: str
    names: tuple[str, ...]


def fold(names: Iterable[str]) -> list[Folded]:
    """Write names as few patterns, in order of appearance, each for exactly the names that it spells out."""
    patterns = {_split(name): [name] for name in dict.fromkeys(names)}
    for position in range(max(map(len, patterns), default=0) - 1, -1, -1):
        patterns = _merge(patterns, position)
    return [Folded(_spell(pattern), tuple(found)) for pattern, found in patterns.items()]


def numbers(values: Sequence[int]) -> str:
    """Write a set of numbers: ``{0..11}``, ``{0,1}``, ``{0,2,5..9}``; a single one without braces."""
    if len(values) == 1:
        return str(values[0])
    parts: list[str] = []
    for run in _runs(values):
        parts += [f"{run[0]}..{run[-1]}"] if len(run) >= _RUN else [str(value) for value in run]
    return "{" + ",".join(parts) + "}"


def _split(name: str) -> _Pattern:
    return tuple((int(part),) if _is_number(part) else part for part in _NUMBER.split(name))


def _is_number(part: str) -> bool:
    # With a leading zero, or more digits than an index has, it is a name and must come back as it was.
    return part.isascii() and part.isdigit() and len(part) <= _DIGITS and str(int(part)) == part


def _merge(patterns: dict[_Pattern, list[str]], position: int) -> dict[_Pattern, list[str]]:
    """Join the patterns that differ in the numbers at one position only."""
    groups: dict[_Pattern, tuple[list[int], list[str]]] = {}
    for pattern, names in patterns.items():
        part = pattern[position] if position < len(pattern) else ""
        if isinstance(part, str):
            groups[pattern] = ([], names)
        else:
            found, of = groups.setdefault((*pattern[:position], (), *pattern[position + 1 :]), ([], []))
            found.extend(part)
            of.extend(names)
    return {
        tuple(tuple(sorted(found)) if part == () else part for part in pattern): names
        for pattern, (found, names) in groups.items()
    }


def _spell(pattern: _Pattern) -> str:
    return "".join(part if isinstance(part, str) else numbers(part) for part in pattern)


def _runs(values: Sequence[int]) -> list[list[int]]:
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return runs

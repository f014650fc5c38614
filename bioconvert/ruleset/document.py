"""A rule file as plain values, each with the place where it stands, and the problems found on the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bioconvert.core.errors import Problem
from bioconvert.ruleset.quoting import printable, shortened

Loc = tuple[str | int, ...]
"""Keys and indices that lead from the top of a file to a value."""

MAX_DEPTH = 32
MAX_VALUES = 100_000
"""Values in one rule file: a hundred times what any model needs, read in seconds."""
MAX_PROBLEMS = 100
"""Reported at once; whoever has more has one cause."""
_MOST_BITS = 1600
"""Of an integer; CPython refuses to write out those of more than 4,300 digits."""
_LONGEST_EXCERPT = 160


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands, which is no part of what it says: any two places are equal.

    Args:
        source: the file's name, or what stands for it.
        line: line, counted from 1; ``None`` where there is no text.
        column: column, counted from 1.
        excerpt: the line of text.
    """

    source: str = field(default="<rules>", compare=False)
    line: int | None = field(default=None, compare=False)
    column: int | None = field(default=None, compare=False)
    excerpt: str | None = field(default=None, compare=False)

    def problem(self, message: str) -> Problem:
        """Give a problem that points here."""
        return Problem(printable(message), self.source, self.line, self.column, self.excerpt)


@dataclass(frozen=True, slots=True)
class Text:
    """A source and its lines, from which places are cut."""

    source: str
    lines: Sequence[str] = ()

    def place(self, line: int, column: int) -> Place:
        """Give the place at a line and column, both counted from 0."""
        return Place(self.source, line + 1, column + 1, self._excerpt(line, column))

    def _excerpt(self, line: int, column: int) -> str | None:
        if line >= len(self.lines) or column >= _LONGEST_EXCERPT:
            return None
        text = printable(self.lines[line][:_LONGEST_EXCERPT])
        return text.rstrip() + ("…" if len(self.lines[line]) > _LONGEST_EXCERPT else "") or None


class Unusable(Exception):  # noqa: N818 - control flow: a text or dict that can't be read to its end
    """Raised while a document is read, with the problem that ends it."""

    def __init__(self, problem: Problem):
        self.problem = problem
        super().__init__(str(problem))


@dataclass(slots=True)
class Document:
    """The values of one rule file or dict.

    Args:
        source: the file's name, or what stands for it.
        value: the values, as dicts, lists and scalars.
        values: where each value stands; empty for a dict.
        keys: where the key of each value in a mapping stands.
        problems: what is wrong with it.
    """

    source: str
    value: object = None
    values: dict[Loc, Place] = field(default_factory=dict)
    keys: dict[Loc, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    _spoiled: set[Loc] = field(default_factory=set)

    def place(self, loc: Loc, *, key: bool = False) -> Place:
        """Give the place of a value or of its key; where it is not known, that of what it is part of."""
        if key and loc in self.keys:
            return self.keys[loc]
        for length in range(len(loc), -1, -1):
            if loc[:length] in self.values:
                return self.values[loc[:length]]
        return Place(self.source)

    def report(self, loc: Loc, message: str, *, key: bool = False) -> None:
        """Take note of a problem, unless the value could not even be read: that problem is the cause."""
        if key or loc not in self._spoiled:
            self._add(self.place(loc, key=key).problem(message))

    def spoil(self, loc: Loc, place: Place, message: str) -> None:
        """Take note that a value could not be read; ``None`` stands for it."""
        self._spoiled.add(loc)
        self._add(place.problem(message))

    def _add(self, problem: Problem) -> None:
        if len(self.problems) < MAX_PROBLEMS and problem not in self.problems:
            self.problems.append(problem)


def document_of(value: object, source: str) -> Document:
    """Take a rule set given as a dict: copied, and held to what a file could contain."""
    document = Document(source)
    try:
        document.value = _copied(value, (), document, iter(range(MAX_VALUES)))
    except Unusable as end:
        document.problems.append(end.problem)
    return document


def _copied(value: object, loc: Loc, document: Document, left: Iterator[int]) -> object:
    if next(left, None) is None:
        raise Unusable(Place(document.source).problem(f"there are more than {MAX_VALUES:,} values"))
    if len(loc) > MAX_DEPTH:
        raise Unusable(Place(document.source).problem(f"it is nested more than {MAX_DEPTH} levels deep"))
    if isinstance(value, Mapping):
        return _copied_mapping(value, loc, document, left)
    if isinstance(value, list | tuple):
        return [_copied(item, (*loc, i), document, left) for i, item in enumerate(value)]
    if isinstance(value, str | bool | int | float | None):
        fits = not isinstance(value, int) or value.bit_length() <= _MOST_BITS
        if fits:
            return _plain(value)
    given = "a number as long as that" if isinstance(value, int) else type(value).__name__
    document.spoil(loc, Place(document.source), f"{path_text(loc)}: {given} can't stand in a rule set")
    return None


def _copied_mapping(
    value: Mapping[object, object], loc: Loc, document: Document, left: Iterator[int]
) -> dict[str, object]:
    copied: dict[str, object] = {}
    for key, item in value.items():
        if isinstance(key, str):
            plain = str.__str__(key)
            copied[plain] = _copied(item, (*loc, plain), document, left)
        else:
            document.report(loc, f"{path_text(loc)}: a key must be text, not {type(key).__name__}")
    return copied


def _plain(value: str | float | None) -> object:
    """Strip the subclass off a scalar (an enum's member, numpy's float64)."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        return float.__float__(value)
    return value if value is None or isinstance(value, bool) else int.__int__(value)


def path_text(loc: Loc) -> str:
    """Write where a value is: ``rules[0].match.type``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{shortened(step)}" for step in loc)
    return text.removeprefix(".") or "the rule set"

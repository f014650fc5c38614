"""Globs over dotted names: ``*`` within a segment, ``**`` for any number of them, ``?`` for a character."""

from __future__ import annotations

import re
from collections.abc import Callable

_RANGE = re.compile(r"([0-9]-[0-9]|a-z|A-Z)+")


class PatternError(ValueError):
    """A glob or regular expression that can't be used, with what to write instead."""


def check_glob(glob: str) -> None:
    """Check that a glob is well-formed, without compiling it.

    Raises:
        PatternError: it is not.
    """
    if set("[]{}") & set(glob):
        raise PatternError(
            "a glob knows `*`, `**` and `?`, no `[…]` or `{…}`; list the alternatives, "
            r"or write a regular expression: 're:layer[0-9]\.conv'"
        )
    if _RANGE.fullmatch(glob):
        raise PatternError(
            "in YAML, `[0-9]` is a list, and a glob knows no `[…]`; write a regular expression: 're:[0-9]'"
        )
    for segment in _segments(glob):
        if segment == "":
            raise PatternError("there is nothing between two dots, or beside the first or last one")
        if "**" in segment and segment != "**":
            raise PatternError("`**` stands for whole segments; within a name, write a single `*`")


def compile_glob(glob: str) -> Callable[[str], bool]:
    """Give the function that says of a dotted name whether a glob matches it; the empty name is the model's.

    It takes time linear in the name: a wildcard never has to give back what it took at first, hence the
    atomic groups.

    Raises:
        PatternError: it is not well-formed.
    """
    # Not needed for checking a file, and 30 ms to import.
    import regex

    check_glob(glob)
    runs: list[list[str]] = [[]]
    for segment in _segments(glob):
        if segment == "**":
            runs.append([])
        else:
            runs[-1].append(segment)
    blocks = ["".join(map(_segment, run)) for run in runs]
    first, *middle = blocks[:-1] or [""]
    between = "".join(rf"(?>(?:[^.]*\.)*?{block})" for block in middle if block)
    anywhere = r"(?:[^.]*\.)*" if len(runs) > 1 else ""
    full_match = regex.compile(first + between + anywhere + blocks[-1]).fullmatch
    return lambda name: full_match(f"{name}." if name else "") is not None


def _segments(glob: str) -> list[str]:
    return glob.split(".") if glob else []


def _segment(segment: str) -> str:
    """Write one segment, with the dot that ends it, as a regular expression."""
    first, *rest = (_literal(part) for part in segment.split("*"))
    if not rest:
        return rf"{first}\."
    middle = "".join(rf"(?>[^.]*?{part})" for part in rest[:-1])
    return rf"{first}{middle}[^.]*{rest[-1]}\."


def _literal(text: str) -> str:
    return "[^.]".join(re.escape(part) for part in text.split("?"))

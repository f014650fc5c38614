"""The patterns of a rule: globs, and regular expressions after ``re:``, which share a budget of time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

from bioconvert.ruleset.expressions import compile_expression
from bioconvert.ruleset.globs import check_glob, compile_glob

SECONDS = 1.0
"""What the regular expressions of one rule may take on one model."""
_PREFIX = "re:"


class SlowPattern(Exception):  # noqa: N818 - control flow: becomes a problem of the rule
    """A regular expression that did not come to an end in time."""

    def __init__(self, pattern: str):
        self.pattern = pattern
        super().__init__(pattern)


class Patterns:
    """Some patterns of one rule.

    Args:
        patterns: globs, or regular expressions after ``re:``.
        deadline: the ``time.monotonic()`` by which they must be done.

    Raises:
        PatternError: one of them is not well-formed.
    """

    def __init__(self, patterns: Iterable[str], deadline: float):
        self._matchers = [(pattern, _matcher(pattern)) for pattern in patterns]
        self._deadline = deadline

    def match(self, names: Sequence[str]) -> bool:
        """Say whether one of the patterns matches one of the names.

        Raises:
            SlowPattern: not within the time that there is.
        """
        for pattern, matches in self._matchers:
            for name in names:
                try:
                    if matches(name, self._deadline):
                        return True
                except TimeoutError:
                    raise SlowPattern(pattern) from None
        return False


def deadline() -> float:
    """Give the ``time.monotonic()`` by which a rule that begins now must have matched."""
    return time.monotonic() + SECONDS


def check_pattern(pattern: str) -> None:
    """Check that a pattern is well-formed.

    Raises:
        PatternError: it is not.
    """
    if pattern.startswith(_PREFIX):
        _matcher(pattern)
    else:
        check_glob(pattern)


@lru_cache(maxsize=1024)
def _matcher(pattern: str) -> Callable[[str, float], bool]:
    if pattern.startswith(_PREFIX):
        return compile_expression(pattern.removeprefix(_PREFIX))
    matches = compile_glob(pattern)
    return lambda name, _deadline: matches(name)

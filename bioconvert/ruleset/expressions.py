"""Regular expressions from rule files, which must neither run for long nor compile to something huge."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable

from bioconvert.ruleset.globs import PatternError

_LONGEST = 1_000
_LARGEST = 100_000
"""Length times repeat counts: ``regex`` compiles every repetition, and nested ones multiply."""
_RECURSION = re.compile(r"\(\?(R|[+-]?[0-9]|&|P>)")
_VERBOSE = re.compile(r"\(\?[\w-]*x")
_COUNT = re.compile(r"\{([0-9]*),?([0-9]*)")


def compile_expression(text: str) -> Callable[[str, float], bool]:
    """Give the function that says whether a regular expression matches a whole name.

    Its second argument is the ``time.monotonic()`` by which it gives up with a ``TimeoutError``.

    Raises:
        PatternError: it is not well-formed, or too large.
    """
    import regex

    _check(text)
    try:
        full_match = regex.compile(text).fullmatch
    except (regex.error, ValueError, OverflowError) as error:
        raise PatternError(f"it is not a regular expression: {error}") from error
    except RecursionError:
        raise PatternError("it is not a regular expression: too many nested groups") from None

    def matches(name: str, deadline: float) -> bool:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return full_match(name, timeout=left) is not None

    return matches


def _check(text: str) -> None:
    if len(text) > _LONGEST:
        raise PatternError(f"a regular expression has at most {_LONGEST:,} characters, not {len(text):,}")
    if _RECURSION.search(text):
        raise PatternError("a regular expression can't call itself or one of its groups")
    if _VERBOSE.search(text):
        raise PatternError("a regular expression can't switch to verbose mode")
    counts = [max(int(number or 1) for number in found.groups()) for found in _COUNT.finditer(text)]
    if math.prod(count or 1 for count in counts) * len(text) > _LARGEST:
        raise PatternError("a regular expression with repeat counts as large as these can't be compiled")

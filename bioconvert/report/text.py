"""Text for a terminal: names made harmless, numbers made short."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

from bioconvert.core.sizes import size as size

_LONGEST = 160
"""Characters of a name that are shown: two lines of a terminal. ``--json`` has the whole."""
_HALF = _LONGEST // 2 - 1
_SCALES = ((1_000_000_000_000, "T"), (1_000_000_000, "G"), (1_000_000, "M"))


def printable(text: str) -> str:
    r"""Spell out what a terminal would act upon: control characters, ESC and direction marks become ``\x1b``.

    Line breaks stay, since only our own texts have them; use :func:`one_line` for a name.
    """
    return "".join(c if c == "\n" or c.isprintable() else _escaped(c) for c in text)


def one_line(text: str) -> str:
    """Make a text harmless and keep it on one line."""
    return printable(text).replace("\n", "\\n")


def short(name: str) -> str:
    """Make a name harmless, and cut the middle out of an endless one."""
    text = one_line(name)
    return text if len(text) <= _LONGEST else f"{text[:_HALF]}…{text[-_HALF:]}"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def plural(count: int, noun: str, many: str | None = None) -> str:
    """Say ``1 module`` or ``1,234 modules``."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


def amount(count: int) -> str:
    """Say a number of parameters: exactly below a million, ``11.69 M`` above."""
    for scale, letter in _SCALES:
        if count >= scale:
            return f"{count / scale:.2f} {letter}"
    return f"{count:,}"


def shape(sizes: tuple[int, ...] | list[int]) -> str:
    """Say a tensor's shape: ``64×3×7×7``, and nothing for a scalar."""
    return "×".join(str(length) for length in sizes)


def measure(value: float) -> str:
    """Say a measured number with three digits that count."""
    if not isfinite(value):
        return str(value)
    return "0" if value == 0 else f"{value:.3g}"


def finite(value: object) -> object:
    """Make a value fit for JSON, which has no NaN and no infinity: they become null."""
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value

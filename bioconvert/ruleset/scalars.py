"""Plain scalars of the YAML 1.2 core schema: ``yes`` is text, ``1e-5`` a number."""

from __future__ import annotations

import math
import re

Scalar = str | int | float | bool | None

_CONSTANTS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **{sign + word: math.inf for sign in ("", "+") for word in (".inf", ".Inf", ".INF")},
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}
_INTEGERS = (
    (re.compile(r"[-+]?[0-9]+"), 10, 0),
    (re.compile(r"0o[0-7]+"), 8, 2),
    (re.compile(r"0x[0-9a-fA-F]+"), 16, 2),
)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
LONGEST_NUMBER = 400
"""Characters; longer ones are a mistake, and CPython refuses to convert them from 4,300 on."""


def scalar(text: str) -> Scalar:
    """Give the value that an unquoted scalar stands for.

    Raises:
        ValueError: a number of more than 400 characters.
    """
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    number = _number(text)
    return text if number is None else number


def _number(text: str) -> int | float | None:
    if text[0] not in "+-.0123456789":
        return None
    if len(text) > LONGEST_NUMBER and not text.strip("+-.0123456789abcdefABCDEFox"):
        raise ValueError(f"a number of {len(text)} characters")
    for pattern, base, skipped in _INTEGERS:
        if pattern.fullmatch(text):
            return int(text[skipped:], base)
    return float(text) if _FLOAT.fullmatch(text) else None


def scalar_text(value: Scalar) -> str:
    """Write a value so that :func:`scalar` reads the same one back; text as it is."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else (".inf" if value > 0 else "-.inf")
    return str(value)

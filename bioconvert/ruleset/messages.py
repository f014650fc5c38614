"""Pydantic's errors in our own words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bioconvert.core.suggest import hint, nearest
from bioconvert.ruleset.frozen import OUR_FAULT
from bioconvert.ruleset.quoting import listed, shown

ErrorDetails = Mapping[str, Any]

_EXPECTED = {
    "string_type": "text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "none_required": "null",
    "finite_number": "a finite number",
    "greater_than": "greater than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
}
_QUOTED = re.compile(r"'([^']*)'")
_TEXTS = ("type", "path", "not", "followed_by")
"""Keys that take text or a list of texts."""


def unknown_key(key: str, known: Sequence[str]) -> str:
    """Say that a key is unknown, and which one may have been meant."""
    guess = nearest(key, known)
    meant = f"Did you mean {guess!r}?" if guess is not None else f"Known: {', '.join(known)}."
    return f"unknown key {shown(key)}. {meant}"


def unknown_option(name: str, option: str, known: Iterable[str]) -> str:
    """Say that something has no such option."""
    return f"{name} has no option {shown(option)}. {hint(option, known)}"


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Say that nothing of that name is registered."""
    return f"there is no {kind} named {shown(name)}. {hint(name, known)}"


def must_be(errors: Sequence[ErrorDetails], key: str | int = "") -> str:
    """Say what a value must be, from the errors of every type that it might have had.

    Args:
        errors: the errors, all about the same value.
        key: the key of the value.
    """
    ours = [error["ctx"]["text"] for error in errors if error["type"] == OUR_FAULT]
    if ours:
        return str(ours[0])
    given = errors[0]["input"]
    if any(error["type"] not in _EXPECTED for error in errors):
        return f"{errors[0]['msg']}, not {shown(given)}"
    expected = list(dict.fromkeys(_expectation(error, key) for error in errors))
    return f"must be {listed(expected)}, not {shown(given)}{_advice(expected, given)}"


def _expectation(error: ErrorDetails, key: str | int) -> str:
    if error["type"] == "tuple_type" and key in _TEXTS:
        return "text or a list of texts"
    limits = {name: _number(limit) for name, limit in error.get("ctx", {}).items()}
    return _EXPECTED[error["type"]].format(**limits)


def _number(limit: object) -> object:
    return f"{limit:g}" if isinstance(limit, float) else limit


def _advice(expected: Sequence[str], given: object) -> str:
    words = " ".join(expected)
    if isinstance(given, str):
        return _advice_on_text(words, given)
    if "text" not in words:
        return ""
    if isinstance(given, dict):
        return ": in YAML, `{q,k}` is a mapping; put quotes around text"
    if isinstance(given, list):
        return ": in YAML, `[0-9]` is a list; put quotes around text"
    return ": put quotes around it"


def _advice_on_text(words: str, given: str) -> str:
    if words == "true or false" and given.casefold() in ("yes", "no", "on", "off"):
        return f": in YAML 1.2, {given} is text"
    guess = nearest(given, _QUOTED.findall(words))
    return f". Did you mean {guess!r}?" if guess is not None else ""

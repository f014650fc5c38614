"""JSON read strictly: UTF-8, no key twice, no NaN, no depth that would exhaust the stack."""

from __future__ import annotations

import json
import math
from typing import NoReturn

from bioconvert.core.errors import CorruptFileError, UnsafeFileError

_MARKS = (b",", b"[", b"{")
"""Each value but the first follows one of them; those inside texts count too, which is on the safe side."""


def parse_json(text: bytes, where: str, *, most: int | None = None) -> object:
    """Parse a JSON document.

    Args:
        text: the document as it stands in the file.
        where: what it is, for the error text, such as ``"x.safetensors: the header"``.
        most: values, lists and objects that it may have, about; ``None`` for any number.

    Raises:
        UnsafeFileError: it has more, which was counted before anything was parsed.
        CorruptFileError: not UTF-8, not JSON, a key given twice, nested too deep, or a number out of range.
    """
    if most is not None and sum(text.count(mark) for mark in _MARKS) > most:
        raise UnsafeFileError(f"{where} lists more than {most} values; no checkpoint needs as many")
    try:
        return json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
    except UnicodeDecodeError:
        raise CorruptFileError(f"{where} must be UTF-8 text, but isn't") from None
    except RecursionError:
        raise CorruptFileError(f"{where} is nested too deep to be read") from None
    except ValueError as error:
        raise CorruptFileError(f"{where} is not valid JSON: {error}") from None


def parse_object(text: bytes, where: str, *, most: int | None = None) -> dict[str, object]:
    """Parse a JSON document that must be an object; see :func:`parse_json`."""
    found = parse_json(text, where, most=most)
    if not isinstance(found, dict):
        raise CorruptFileError(f"{where} must be a JSON object, but is {type(found).__name__}")
    return found


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:80]!r} is given twice")
    return found


def _finite(text: str) -> float:
    found = float(text)
    if math.isinf(found):
        raise ValueError(f"{text[:40]} is out of range")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")

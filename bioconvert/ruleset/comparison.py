"""Conditions on a module's attributes: ``groups: 1``, ``in_channels: ">=16"``, ``bias: true``."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Literal, cast

from bioconvert.ruleset.frozen import Frozen
from bioconvert.ruleset.quoting import shown
from bioconvert.ruleset.scalars import Scalar, scalar, scalar_text

Operator = Literal["==", "!=", "<", "<=", ">", ">="]
"""How a condition compares."""

_ORDER: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_OPERATORS: tuple[Operator, ...] = ("==", "!=", "<=", ">=", "<", ">")
_NUMBERS = (int, float)
_SEQUENCES = (list, tuple)
_MARKS = ("<", ">", "=", "!")
_SAMPLE = 'write ">=16", "!=1" or ">2, <=64"'


class Comparison(Frozen):
    """One condition on the value of an attribute.

    Args:
        op: the comparison.
        value: what the attribute is compared to.
    """

    op: Operator = "=="
    value: object = None

    def holds(self, actual: object) -> bool:
        """Say whether an attribute's value meets the condition.

        A number is compared to every entry of a tuple, such as a kernel's size. ``true`` and ``false`` also
        ask whether there is something at all, as in ``bias: false``.
        """
        if self.op == "!=":
            return not _equal(actual, self.value)
        return _equal(actual, self.value) if self.op == "==" else self._ordered(actual)

    def _ordered(self, actual: object) -> bool:
        if isinstance(actual, _SEQUENCES):
            return len(actual) > 0 and all(map(self._ordered, actual))
        if not _is_number(actual) or not _is_number(self.value):
            return False
        return _ORDER[self.op](actual, self.value)  # type: ignore[arg-type]

    def __str__(self) -> str:
        return f"{self.op}{scalar_text(cast(Scalar, self.value))}"


def _equal(actual: object, value: object) -> bool:
    if isinstance(value, tuple):
        if not isinstance(actual, _SEQUENCES) or len(actual) != len(value):
            return False
        return all(map(_equal, actual, value))
    if isinstance(actual, _SEQUENCES):
        return _is_number(value) and len(actual) > 0 and all(_equal(entry, value) for entry in actual)
    if isinstance(value, bool):
        return _presence(actual) is value
    if _is_number(value):
        return _is_number(actual) and actual == value
    return actual is None if value is None else isinstance(actual, str) and actual == value


def _presence(actual: object) -> bool | None:
    """Say whether there is something; ``None`` for a number or text, which is neither true nor false."""
    if actual is None or isinstance(actual, bool):
        return bool(actual)
    return None if isinstance(actual, int | float | str) else True


def _is_number(value: object) -> bool:
    return isinstance(value, _NUMBERS) and not isinstance(value, bool)


def comparisons(given: object) -> tuple[Comparison, ...]:
    """Read the conditions on one attribute from a rule file: a literal, or comparisons separated by commas.

    Raises:
        ValueError: it is neither; the text says what to write.
    """
    if isinstance(given, str) and given.lstrip().startswith(_MARKS):
        return tuple(_comparison(part) for part in given.split(","))
    return (Comparison(value=_literal(given)),)


def _comparison(text: str) -> Comparison:
    stripped = text.strip()
    op = next((op for op in _OPERATORS if stripped.startswith(op)), None)
    operand = stripped[len(op or "") :].strip()
    if op is None or not operand:
        raise ValueError(f"{shown(stripped)} is no comparison; {_SAMPLE}")
    try:
        value = scalar(operand)
    except ValueError as error:
        raise ValueError(f"{error} can't be compared to") from None
    if _is_nan(value) or (op in _ORDER and not _is_number(value)):
        raise ValueError(f"{shown(operand)} can't be compared to with {op}: it is no number; {_SAMPLE}")
    return Comparison(op=op, value=value)


def _literal(given: object) -> object:
    if isinstance(given, list | tuple):
        items = tuple(map(_literal, given))
        if any(isinstance(item, str) and item.startswith(_MARKS) for item in items):
            raise ValueError(f"a list stands for a value as a whole; for several conditions, {_SAMPLE}")
        return items
    if isinstance(given, dict):
        raise ValueError(f"an attribute is compared to a number, text or list, not to a mapping; {_SAMPLE}")
    if _is_nan(given):
        raise ValueError("nothing is equal to .nan")
    return given


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def comparisons_to_plain(conditions: tuple[Comparison, ...]) -> object:
    """Write conditions as :func:`comparisons` reads them."""
    if len(conditions) == 1 and conditions[0].op == "==":
        value = conditions[0].value
        if not (isinstance(value, str) and value.startswith(_MARKS)):
            return _thawed(value)
    return ", ".join(map(str, conditions))


def _thawed(value: object) -> object:
    return [_thawed(item) for item in value] if isinstance(value, tuple) else value

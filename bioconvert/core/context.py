"""Values that hold for a while, in one flow of control and what it calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

Value = TypeVar("Value")


@contextmanager
def holding(variable: ContextVar[Value], value: Value) -> Iterator[None]:
    """Let a variable have a value until the block ends, and then again the one that it had."""
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)

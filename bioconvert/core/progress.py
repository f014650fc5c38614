"""How far long work has come, for whoever listens; without a listener it is logged."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Listener = Callable[[str, int, int], None]
"""Called with what is being done, how many parts of it are, and how many there are."""

_log = logging.getLogger("bioconvert")


def progress(work: str, done: int, total: int) -> None:
    """Say how far some work has come.

    Args:
        work: what is being done, such as ``"calibrating"``.
        done: how many parts are finished.
        total: how many there are.
    """
    listener = _listener.get()
    if listener is None:
        _log.info("%s: %d of %d", work, done, total)
    else:
        listener(work, done, total)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Let a function hear of progress for a while."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)

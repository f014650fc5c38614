"""How far long work has come, for whoever listens; without a listener it is logged."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar

from bioconvert.core.context import holding

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


def listening(listener: Listener) -> AbstractContextManager[None]:
    """Let a function hear of progress for a while."""
    return holding(_listener, listener)


_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


class Transfer:
    """Bytes on their way to the disk, told block by block to whoever follows.

    Args:
        work: what is being done, such as ``"writing out"``.
        total: how many bytes there are.
    """

    def __init__(self, work: str, total: int):
        self.work, self.total = work, total
        self.done = self.skipped = 0
        self.file: str | None = None
        """The file that was just finished."""

    def add(self, count: int) -> None:
        """Say that more bytes are written."""
        self.done += count
        # What lies around the tensors, as in a training dict, is known only when it is there.
        self.total = max(self.total, self.done)
        self._tell(None)

    def skip(self, count: int) -> None:
        """Say that bytes need not be written, since they are there."""
        self.skipped += count
        self.add(count)

    def finish(self, file: str) -> None:
        """Say that a file is complete."""
        self._tell(file)

    def _tell(self, file: str | None) -> None:
        self.file = file
        follower = _follower.get()
        if follower is not None:
            follower(self)
        elif file is not None:
            _log.info("%s: %s complete, %d of %d bytes", self.work, file, self.done, self.total)


Follower = Callable[[Transfer], None]
"""Called with a transfer each time that it has come further; ``file`` names one that was just finished."""


def following(follower: Follower) -> AbstractContextManager[None]:
    """Let a function hear of transfers for a while."""
    return holding(_follower, follower)


_follower: ContextVar[Follower | None] = ContextVar("follower", default=None)

"""Bytes on their way to the disk: a bar on a terminal, elsewhere a line for each file."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from bioconvert.core.progress import Transfer
from bioconvert.core.sizes import size
from bioconvert.report.text import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

_MINUTE = 60


class Lines:
    """Says a line when a file is finished.

    Args:
        say: what takes the line.
    """

    def __init__(self, say: Callable[[str], None]):
        self._say, self._began = say, time.monotonic()

    def __call__(self, transfer: Transfer) -> None:
        """Hear how far the transfer is."""
        if transfer.file is not None:
            rate = self._rate(transfer)
            self._say(
                f"{transfer.file}: {size(transfer.done)} of {size(transfer.total)} are written, "
                f"{size(rate)}/s, {_duration((transfer.total - transfer.done) / rate)} left"
            )

    def _rate(self, transfer: Transfer) -> float:
        spent = max(time.monotonic() - self._began, 1e-3)
        return max((transfer.done - transfer.skipped) / spent, 1.0)


class Bar:
    """Draws a bar.

    Args:
        console: the terminal.
        before: called once, before the bar is drawn for the first time.
    """

    def __init__(self, console: Console, before: Callable[[], None]):
        self._console, self._before = console, before
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __call__(self, transfer: Transfer) -> None:
        """Hear how far the transfer is."""
        if self._bar is None or self._task is None:
            self._before()
            self._bar = _bar(self._console)
            self._task = self._bar.add_task(printable(transfer.work), total=transfer.total)
            self._bar.start()
        self._bar.update(self._task, completed=transfer.done, total=transfer.total)

    def close(self) -> None:
        """Leave the bar as it stands, if it was drawn."""
        if self._bar is not None:
            self._bar.stop()


def _bar(console: Console) -> Progress:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.progress import TransferSpeedColumn as Speed

    words = TextColumn("{task.description}", markup=False)
    columns = (words, BarColumn(), DownloadColumn(binary_units=True), Speed(), TimeRemainingColumn())
    return Progress(*columns, console=console)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), _MINUTE)
    hours, minutes = divmod(minutes, _MINUTE)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"

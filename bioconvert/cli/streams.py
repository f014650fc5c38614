"""The two streams: results go to stdout, words and progress to stderr."""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TextIO

from bioconvert.cli.transfers import Bar, Lines
from bioconvert.core.progress import following, listening
from bioconvert.report.text import printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


def note(text: str) -> None:
    """Say something on stderr."""
    print(printable(text), file=sys.stderr, flush=True)


def show(parts: Iterable[str | RenderableType]) -> None:
    """Put a result on stdout: strings as they are, anything else through rich."""
    for part in parts:
        if isinstance(part, str):
            print(printable(part))
        else:
            _console(sys.stdout).print(part)
    sys.stdout.flush()


@contextlib.contextmanager
def step(text: str) -> Iterator[None]:
    """Say what is being done: a spinner on a terminal, a line anywhere else."""
    if not sys.stderr.isatty():
        note(f"{text} …")
        with listening(_note_progress), following(Lines(note)):
            yield
        return
    from rich.text import Text

    console = _console(sys.stderr)
    with console.status(Text(f"{printable(text)} …")) as spinner:
        bar = Bar(console, spinner.stop)

        def update(work: str, done: int, total: int) -> None:
            spinner.update(Text(f"{work}: {done} of {total} …"))

        with listening(update), following(bar), contextlib.closing(bar):
            yield


def _note_progress(work: str, done: int, total: int) -> None:
    note(f"{work}: {done} of {total}")


@contextlib.contextmanager
def words_on_stderr() -> Iterator[None]:
    """Send to stderr, line by line, whatever the work says: logged warnings, Python's warnings, prints.

    What a user's own model code prints must not end up inside the result.
    """
    logger, handler = logging.getLogger("bioconvert"), _Words(logging.WARNING)
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
            warnings.showwarning = _show_warning
            yield
    finally:
        logger.removeHandler(handler)


class _Words(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        note(f"{record.levelname.lower()}: {record.getMessage()}")


def _show_warning(
    message: Warning | str,
    category: type[Warning],  # noqa: ARG001 - the signature is that of warnings.showwarning
    filename: str,  # noqa: ARG001
    lineno: int,  # noqa: ARG001
    file: TextIO | None = None,  # noqa: ARG001
    line: str | None = None,  # noqa: ARG001
) -> None:
    note(f"warning: {message}")


def _console(file: TextIO) -> Console:
    from rich.console import Console

    class Piped(Console):
        def on_broken_pipe(self) -> None:
            # Rich would end the process by itself, with a code that means something else here.
            raise BrokenPipeError

    return Piped(file=file, markup=False, highlight=False, emoji=False)

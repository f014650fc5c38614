"""The one file that a report is written to: never over a file of another kind, never half."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from bioconvert.core.errors import OptionError, TargetError

_LOOKED_AT = 400
"""Bytes at the beginning of a file in which a report says what made it."""
_MARKS = (b'content="bioconvert ', b"flowchart LR\n", b"digraph model {")


def check_report(file: Path | None, *folders: Path | None) -> None:
    """Check that a report can be written, as far as one can tell without writing.

    Args:
        file: the file; ``None`` for no report.
        folders: converted folders, old or new, in which it must not lie: ``verify`` would find it there.

    Raises:
        OptionError: it lies in one of the folders.
        TargetError: there is something else in its place, or no folder for it.
    """
    if file is None:
        return
    for folder in folders:
        if folder is not None and file.absolute().parent.resolve() == folder.absolute().resolve():
            raise OptionError(
                f"{file}: a report must lie outside of {folder}, where every file is listed and hashed"
            )
    if not file.absolute().parent.is_dir():
        raise TargetError(f"{file}: the folder for it must exist")
    if file.is_dir() or (file.exists() and not _is_report(file)):
        raise TargetError(f"{file}: is no report; choose another name, nothing else is replaced")


def write_report(file: Path, text: str) -> None:
    """Write a report, whole or not at all."""
    handle, name = tempfile.mkstemp(dir=file.absolute().parent, prefix=".report-", suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)
        Path(name).replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def _is_report(file: Path) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        start = stream.read(_LOOKED_AT)
    return not start or any(mark in start for mark in _MARKS)

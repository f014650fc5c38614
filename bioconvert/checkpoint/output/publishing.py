"""A complete folder takes its name, in one step where the system has one."""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Callable
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def publish(folder: Path, target: Path, aside: Path) -> None:
    """Give a folder the target's name, and take that back if it doesn't reach the disk.

    A folder that was there keeps its mode and lies, after that, where ``folder`` was or at ``aside``. Where
    the system can't exchange two folders in one step, there is a moment in which the target is absent and
    both lie beside it.

    Args:
        folder: the complete folder, on the target's file system.
        target: the name to take.
        aside: a free name beside the folder.
    """
    if target.exists():
        folder.chmod(stat.S_IMODE(target.stat().st_mode))
    sync_folder(folder)
    undo = _swap(folder, target, aside)
    try:
        sync_folder(target.parent)
    except OSError:
        undo()
        raise


def sync_folder(path: Path) -> None:
    """Let the names in a folder reach the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _swap(folder: Path, target: Path, aside: Path) -> Callable[[], None]:
    """Rename; give what undoes it."""
    if not target.exists() or not any(target.iterdir()):
        there = target.exists()
        folder.replace(target)  # fails if the folder was filled in the meantime
        return lambda: _move_back(target, folder, leave_empty=there)
    if exchange(folder, target):
        return lambda: _exchange_back(folder, target)
    target.replace(aside)
    try:
        folder.replace(target)
    except BaseException:
        aside.replace(target)
        raise
    return lambda: _move((target, folder), (aside, target))


def _move(*renames: tuple[Path, Path]) -> None:
    for source, target in renames:
        source.replace(target)


def _move_back(target: Path, folder: Path, *, leave_empty: bool) -> None:
    target.replace(folder)
    if leave_empty:
        target.mkdir()


def _exchange_back(one: Path, other: Path) -> None:
    if not exchange(one, other):
        raise OSError("the folders could not be exchanged back")


def exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step, where the system can (Linux 3.15, most local file systems)."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    return bool(rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0)

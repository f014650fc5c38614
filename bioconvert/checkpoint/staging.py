"""A folder that appears under its name complete or not at all.

Everything is written into a folder beside the target, on the same file system, and reaches the disk before
that folder takes the target's name. At every instant, after any kill or power cut, the target is absent, the
old complete folder, or the new complete one. Where the system can't exchange two folders in one step, there
is a moment in which the target is absent and both lie beside it, as ``.NAME.bioconvert-…``.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bioconvert.checkpoint.manifest import FileRecord
from bioconvert.core.errors import TargetError

_log = logging.getLogger("bioconvert")
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def staged_folder(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give an empty folder to write into, which takes the target's name when the block ends without an error.

    Args:
        target: the folder to appear.
        overwrite: whether a folder that isn't empty may be replaced; it stays until the new one is complete.

    Raises:
        TargetError: the target is in use, or the system refused to write; the target is as it was.
    """
    target = Path(os.path.realpath(target))
    staging = target.with_name(f".{target.name}.bioconvert-{secrets.token_hex(4)}")
    try:
        check_target(target, overwrite=overwrite)
        target.parent.mkdir(parents=True, exist_ok=True)
        staging.mkdir()
        yield staging
        sync_folder(staging)
        check_target(target, overwrite=overwrite)
        _publish(staging, target)
    except TargetError:
        raise
    except OSError as error:
        raise TargetError(f"{target}: could not be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def check_target(target: Path, *, overwrite: bool) -> None:
    """Check that a folder may appear under a name.

    Raises:
        TargetError: a file has the name, or a folder that isn't empty and may not be replaced.
    """
    if target.exists() and not target.is_dir():
        raise TargetError(f"{target}: must be a folder, but is a file")
    if target.exists() and not overwrite and any(target.iterdir()):
        raise TargetError(f"{target}: isn't empty; choose another folder, or say that it may be overwritten")


def write_file(path: Path, blocks: Iterable[bytes | memoryview]) -> int:
    """Write a new file through to the disk, with what the umask leaves of mode 0666, and give its size."""
    size = 0
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), "wb") as handle:
        for block in blocks:
            handle.write(block)
            size += len(block)
        handle.flush()
        os.fsync(handle.fileno())
    return size


def write_hashed(path: Path, blocks: Iterable[bytes | memoryview]) -> FileRecord:
    """Write a new file as :func:`write_file` does, and give its size and hash."""
    digest = hashlib.sha256()

    def hashed() -> Iterator[bytes | memoryview]:
        for block in blocks:
            digest.update(block)
            yield block

    size = write_file(path, hashed())
    return FileRecord(size=size, sha256=digest.hexdigest())


def sync_folder(path: Path) -> None:
    """Let the names in a folder reach the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _publish(staging: Path, target: Path) -> None:
    """Give the staged folder the target's name, and take that back if it doesn't reach the disk."""
    undo, old = _swap(staging, target)
    try:
        sync_folder(target.parent)
    except OSError:
        undo()
        raise
    if old is not None:
        try:
            shutil.rmtree(old)
        except OSError as error:
            _log.warning("%s: the replaced folder could not be removed: %s", old, error)


def _swap(staging: Path, target: Path) -> tuple[Callable[[], None], Path | None]:
    """Rename; give what undoes it, and where the old folder is now."""
    if not target.exists() or not any(target.iterdir()):
        there = target.exists()
        staging.replace(target)  # fails if the folder was filled in the meantime
        return lambda: _move_back(target, staging, leave_empty=there), None
    if _exchange(staging, target):
        return lambda: _exchange_back(staging, target), staging
    aside = staging.with_name(staging.name + "-old")
    target.replace(aside)
    try:
        staging.replace(target)
    except BaseException:
        aside.replace(target)
        raise
    return lambda: _move((target, staging), (aside, target)), aside


def _move(*renames: tuple[Path, Path]) -> None:
    for source, target in renames:
        source.replace(target)


def _move_back(target: Path, staging: Path, *, leave_empty: bool) -> None:
    target.replace(staging)
    if leave_empty:
        target.mkdir()


def _exchange_back(one: Path, other: Path) -> None:
    if not _exchange(one, other):
        raise OSError("the folders could not be exchanged back")


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step, where the system can (Linux 3.15, most local file systems)."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    return bool(rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0)

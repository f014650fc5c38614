"""One process at a time: a lock that the system itself takes back when the process ends, however it ends."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bioconvert.core.errors import TargetError

_log = logging.getLogger("bioconvert")
_LOCK = "lock"
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
"""What file systems without locks answer."""


@contextmanager
def locked_folder(place: Path, what: str) -> Iterator[None]:
    """Make a folder, if it isn't there, and hold it alone.

    Args:
        place: the folder.
        what: what it is for, in the error text.

    Raises:
        TargetError: another process holds it.
    """
    descriptor = _lock(place, what)
    try:
        yield
    finally:
        os.close(descriptor)


def is_locked(place: Path) -> bool:
    """Say whether a process holds a folder."""
    try:
        descriptor = os.open(place / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return not _take(descriptor)
    finally:
        os.close(descriptor)


def remove_locked(place: Path) -> None:
    """Remove an emptied folder that this process holds: its lock last, so that no other is in it by then."""
    (place / _LOCK).unlink(missing_ok=True)
    try:
        place.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
            raise
        _log.info("%s: is in use again", place)


def others_in(place: Path) -> list[Path]:
    """List what is in a folder beside its lock."""
    return sorted(path for path in place.iterdir() if path.name != _LOCK)


def _lock(place: Path, what: str) -> int:
    while True:
        if place.is_symlink():
            raise TargetError(f"{place}: must be a folder of bioconvert's own, but is a link; remove it")
        place.mkdir(exist_ok=True)
        try:
            descriptor = os.open(place / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        except FileNotFoundError:
            continue  # the folder went between the two calls: its holder has finished
        except OSError:
            with suppress(OSError):  # not empty: it is another's
                place.rmdir()
            raise
        try:
            if not _take(descriptor):
                raise TargetError(f"another process is writing {what}; wait for its end, or choose another")
            if _is_still(place / _LOCK, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        _log.warning("this file system has no locks: let no other process write to the same folder")
    return True


def _is_still(path: Path, descriptor: int) -> bool:
    """Say whether the file that is open is the one that has the name now."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(descriptor))

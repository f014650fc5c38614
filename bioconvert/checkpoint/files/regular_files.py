"""Files opened with care: only regular ones, read to the last byte that was promised."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from bioconvert.core.errors import CheckpointError, CorruptFileError

BLOCK = 1 << 20


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading, if it is a regular file; a pipe or a device is refused without waiting for it.

    Raises:
        CheckpointError: there is no such file, it can't be read, or it is no regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: can't be opened ({_reason(error)})") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CheckpointError(f"{path}: must be a regular file, not a folder, pipe, socket or device")
    # Not os.fdopen, whose files bear a number in place of the name that errors of reading tell.
    return open(path, "rb", opener=lambda *_: descriptor)


def size_of(handle: BinaryIO) -> int:
    """Give the size in bytes of an open file."""
    return os.fstat(handle.fileno()).st_size


def read_at(handle: BinaryIO, offset: int, into: memoryview) -> None:
    """Fill a buffer with the bytes from ``offset`` on.

    Raises:
        CorruptFileError: the file ends before the buffer is full.
    """
    handle.seek(offset)
    done = 0
    while done < len(into):
        count = handle.readinto(into[done : done + (BLOCK << 6)])  # type: ignore[attr-defined]
        if not count:
            raise CorruptFileError(
                f"{handle.name}: ends {len(into) - done} bytes too early; copy or download it again"
            )
        done += count


def blocks(handle: BinaryIO, offset: int, length: int) -> Iterator[memoryview]:
    """Give ``length`` bytes from ``offset`` on in blocks of bounded size.

    Raises:
        CorruptFileError: the file ends before that.
    """
    buffer = memoryview(bytearray(min(length, BLOCK)))
    while length > 0:
        block = buffer[: min(length, BLOCK)]
        read_at(handle, offset, block)
        yield block
        offset += len(block)
        length -= len(block)


def sha256_of(path: Path) -> str:
    """Give the SHA-256 of a whole file in hexadecimal digits."""
    digest = hashlib.sha256()
    with open_regular(path) as handle:
        for block in blocks(handle, 0, size_of(handle)):
            digest.update(block)
    return digest.hexdigest()


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)

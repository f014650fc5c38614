"""New files, written through to the disk; large ones are hashed and written in threads, a few MiB behind.

Blocks of any size are copied into a few buffers. While one is filled, which may mean to read or compute,
those before it are hashed and written. The system is told early to bring to the disk what was written, since
it would otherwise leave all of it to the end.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from bioconvert.checkpoint.folders.manifest import FileRecord

_BUFFER = 4 << 20
_BUFFERS = 4
_SYNC_FILE_RANGE_WRITE = 2
_AHEAD = 32 << 20
"""Bytes after which the system is told to begin to write them."""


class Digest(Protocol):
    """A hash being computed."""

    def update(self, data: memoryview, /) -> None:
        """Take more data."""


class FileWriter:
    """Takes the content of one new file.

    Args:
        descriptor: the file, open for writing.
    """

    def __init__(self, descriptor: int):
        self._descriptor = descriptor
        self._hasher, self._writer = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self._unused = _BUFFERS
        self._free: list[_Buffer] = []
        self._busy: deque[tuple[_Buffer, tuple[Future[None], ...]]] = deque()
        self._current = self._take_buffer()
        self._written = self._begun = 0
        self.size = 0

    def put(self, block: bytes | memoryview, *digests: Digest) -> None:
        """Append a block and add it to hashes; the block itself is no longer needed afterwards."""
        rest = memoryview(block).cast("B")
        self.size += len(rest)
        while rest:
            taken = self._current.put(rest, digests)
            rest = rest[taken:]
            if self._current.is_full:
                self._hand_over()
                self._current = self._take_buffer()

    def drain(self) -> None:
        """Wait until all is hashed and written, though perhaps not yet on the disk."""
        while self._busy:
            self._wait()
        self._current.hash()
        self._write(self._current)
        self._current.clear()

    def close(self) -> None:
        """End the threads, whatever is left to do."""
        for pool in (self._hasher, self._writer):
            pool.shutdown(wait=True, cancel_futures=True)

    def _hand_over(self) -> None:
        buffer = self._current
        jobs = (self._hasher.submit(buffer.hash), self._writer.submit(self._write, buffer))
        self._busy.append((buffer, jobs))

    def _take_buffer(self) -> _Buffer:
        if self._unused:
            self._unused -= 1
            return _Buffer()
        if not self._free:
            self._wait()
        return self._free.pop()

    def _wait(self) -> None:
        buffer, jobs = self._busy.popleft()
        for job in jobs:
            job.result()
        buffer.clear()
        self._free.append(buffer)

    def _write(self, buffer: _Buffer) -> None:
        rest = buffer.content
        while rest:
            count = os.write(self._descriptor, rest)
            rest = rest[count:]
            self._written += count
        if self._written - self._begun >= _AHEAD:
            _begin_writeback(self._descriptor, self._begun, self._written - self._begun)
            self._begun = self._written


class _Buffer:
    def __init__(self) -> None:
        self._memory = memoryview(bytearray(_BUFFER))
        self._parts: list[tuple[Digest, int, int]] = []
        self._filled = 0

    @property
    def is_full(self) -> bool:
        return self._filled == _BUFFER

    @property
    def content(self) -> memoryview:
        return self._memory[: self._filled]

    def put(self, block: memoryview, digests: Iterable[Digest]) -> int:
        start, count = self._filled, min(len(block), _BUFFER - self._filled)
        self._memory[start : start + count] = block[:count]
        self._filled += count
        self._parts += [(digest, start, self._filled) for digest in digests]
        return count

    def hash(self) -> None:
        for digest, start, stop in self._parts:
            digest.update(self._memory[start:stop])

    def clear(self) -> None:
        self._parts.clear()
        self._filled = 0


@contextmanager
def new_file(path: Path) -> Iterator[FileWriter]:
    """Make a file with what the umask leaves of mode 0666; it is on the disk when the block ends."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        writer = FileWriter(descriptor)
        try:
            yield writer
            writer.drain()
        finally:
            writer.close()
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(path: Path, blocks: Iterable[bytes | memoryview]) -> int:
    """Write a new file through to the disk, and give its size."""
    return write_hashed(path, blocks).size


def write_hashed(path: Path, blocks: Iterable[bytes | memoryview]) -> FileRecord:
    """Write a new file through to the disk, and give its size and hash."""
    digest = hashlib.sha256()
    with new_file(path) as file:
        for block in blocks:
            file.put(block, digest)
    return FileRecord(size=file.size, sha256=digest.hexdigest())


def _begin_writeback(descriptor: int, offset: int, length: int) -> None:
    """Let the system begin to write a part of a file, and don't wait for it; not all systems can."""
    sync = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if sync is not None:
        # A failure shows when the whole file is synced.
        sync(descriptor, ctypes.c_int64(offset), ctypes.c_int64(length), _SYNC_FILE_RANGE_WRITE)

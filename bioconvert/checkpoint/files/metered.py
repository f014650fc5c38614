"""A file whose pickles may only be so long: torch's legacy format doesn't say how long they are."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO

from bioconvert.checkpoint.files.zip_archive import MAKERS
from bioconvert.core.errors import UnsafeFileError

_MAX_OBJECTS = 400_000
"""Seven a tensor are usual, and thirty thousand tensors fit."""


class Metered(io.RawIOBase):
    """Passes reads on, and counts what is read as pickle; tensors come by :meth:`readinto`, which is free.

    Args:
        handle: the open file.
        path: its path, for the error text.
        limit: bytes of pickle that may be read.
    """

    def __init__(self, handle: BinaryIO, path: Path, limit: int):
        self._handle, self._path, self._limit = handle, path, limit
        self._left = limit
        self._objects = 0

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it can be sought in."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        return self._handle.seek(offset, whence)

    def tell(self) -> int:
        """Tell the place."""
        return self._handle.tell()

    def read(self, size: int = -1) -> bytes:
        """Read some of a pickle.

        Raises:
            UnsafeFileError: the pickles are longer than allowed.
        """
        # A pickle may claim a text of four gigabytes: no more is asked for than may be read.
        most = self._left + 1
        return self._spent(self._handle.read(most if size < 0 else min(size, most)))

    def readline(self, size: int | None = -1) -> bytes:
        """Read a line of a pickle; see :meth:`read`."""
        most = self._left + 1
        return self._spent(self._handle.readline(most if size is None or size < 0 else min(size, most)))

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read the bytes of a tensor."""
        return int(self._handle.readinto(buffer))  # type: ignore[attr-defined]

    def _spent(self, content: bytes) -> bytes:
        self._left -= len(content)
        # An opcode is read by itself, so that no text is counted.
        self._objects += len(content) == 1 and content in MAKERS
        if self._objects > _MAX_OBJECTS:
            raise UnsafeFileError(
                f"{self._path}: its pickle makes more than {_MAX_OBJECTS} objects; too many for weights"
            )
        if self._left < 0:
            raise UnsafeFileError(
                f"{self._path}: its pickle has more than {self._limit} bytes; no checkpoint needs as many"
            )
        return content

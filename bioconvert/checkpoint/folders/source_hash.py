"""The hash of what is converted, computed in a thread while the conversion goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

from bioconvert.checkpoint.files.regular_files import blocks, open_regular, size_of


class SourceHash:
    """The hash of one file, or that of the names and hashes of several.

    It is computed from the moment this is made until the block that it is used in ends.

    Args:
        paths: the files.

    Example:
        >>> with SourceHash([Path(__file__)]) as found:
        ...     len(found.result())
        64
    """

    def __init__(self, paths: Sequence[Path]):
        self._paths, self._stop = paths, Event()
        self._thread = ThreadPoolExecutor(1, "bioconvert-source")
        self._found = self._thread.submit(self._of_all)

    def __enter__(self) -> SourceHash:
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.shutdown(wait=True)

    def result(self) -> str:
        """Wait for the hash.

        Raises:
            CheckpointError: a file can't be read.
        """
        return self._found.result()

    def _of_all(self) -> str:
        hashes = {path.name: self._of_one(path) for path in self._paths}
        if len(hashes) == 1:
            return next(iter(hashes.values()))
        lines = "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes))
        return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()

    def _of_one(self, path: Path) -> str:
        digest = hashlib.sha256()
        with open_regular(path) as handle:
            for block in blocks(handle, 0, size_of(handle)):
                if self._stop.is_set():
                    break
                digest.update(block)
        return digest.hexdigest()

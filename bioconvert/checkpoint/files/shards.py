"""The index of a sharded checkpoint: which tensor lies in which file of the folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bioconvert.checkpoint.files.regular_files import open_regular, read_at, size_of
from bioconvert.checkpoint.files.strict_json import parse_object
from bioconvert.core.errors import CheckpointError, CorruptFileError, UnsafeFileError

INDEX_SUFFIX = ".index.json"
_MAX_INDEX = 64 << 20
_MAX_NAMES = 1_000_000
_MAX_FILE_NAME = 255
"""Bytes, in every usual file system."""


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """A checked index.

    Args:
        path: the index file.
        weight_map: name of each tensor → name of the file in the same folder that holds it.
    """

    path: Path
    weight_map: Mapping[str, str]

    @property
    def files(self) -> tuple[Path, ...]:
        """The shards, each once, by name."""
        return tuple(self.path.parent / name for name in sorted(set(self.weight_map.values())))

    def names_in(self, shard: Path) -> set[str]:
        """Name the tensors that the index puts into one shard."""
        return {name for name, file in self.weight_map.items() if file == shard.name}


def read_index(path: Path) -> ShardIndex:
    """Read the index of a sharded checkpoint and check that its shards are files of the same folder.

    Raises:
        CorruptFileError: the index is damaged.
        UnsafeFileError: it names a file outside its folder.
        CheckpointError: a shard is missing.
    """
    found = parse_object(read_text(path, _MAX_INDEX), f"{path}: the index", most=_MAX_NAMES).get("weight_map")
    if not isinstance(found, dict) or not found or not all(isinstance(file, str) for file in found.values()):
        raise CorruptFileError(f"{path}: must have a 'weight_map' of tensor names to file names")
    index = ShardIndex(path, found)
    for name in sorted(set(found.values())):
        check_file_name(name, path)
        check_inside(path.parent / name)
    missing = [file.name for file in index.files if not file.exists()]
    if missing:
        raise CheckpointError(f"{path}: {len(missing)} shards are missing: {', '.join(missing[:5])}")
    return index


def check_names(index: ShardIndex, shard: Path, held: set[str]) -> None:
    """Check that a shard holds exactly the tensors that the index promises.

    Raises:
        CorruptFileError: it holds others.
    """
    promised = index.names_in(shard)
    for names, what in ((promised - held, "lacks"), (held - promised, "holds, against the index,")):
        if names:
            raise CorruptFileError(
                f"{shard}: {what} {len(names)} tensors, such as {min(names)[:200]!r}; "
                "it belongs to another index"
            )


def check_file_name(name: str, where: Path) -> None:
    """Check that a name from a file's content is a plain file name.

    Raises:
        UnsafeFileError: it is a path, or no name at all.
    """
    if name in {"", ".", ".."} or any(char in name for char in "/\\\0") or not _fits_a_folder(name):
        raise UnsafeFileError(f"{where}: must name files of its own folder only, but names {name[:200]!r}")


def _fits_a_folder(name: str) -> bool:
    """Say whether a file system could hold the name; its own refusal would read like a failing disk."""
    try:
        return len(os.fsencode(name)) <= _MAX_FILE_NAME
    except UnicodeEncodeError:
        return False


def check_inside(path: Path) -> None:
    """Check that a file, if it is a link, leads into its own folder or the blob store beside a model cache.

    Raises:
        UnsafeFileError: it leads elsewhere.
    """
    if not path.is_symlink():
        return
    folder, target = path.parent.resolve(), path.resolve()
    # The model cache of the Hugging Face hub: snapshots/<commit>/<file> → blobs/<hash>.
    if target.parent not in {folder, folder.parent.parent / "blobs"}:
        raise UnsafeFileError(f"{path}: is a link out of its folder; copy the file itself here")


def read_text(path: Path, limit: int) -> bytes:
    """Read a small text file whole.

    Raises:
        CheckpointError: no regular file, or not readable.
        UnsafeFileError: it is larger than ``limit`` bytes.
    """
    with open_regular(path) as handle:
        size = size_of(handle)
        if size > limit:
            raise UnsafeFileError(f"{path}: must be at most {limit} bytes long, but has {size}")
        buffer = bytearray(size)
        read_at(handle, 0, memoryview(buffer))
        return bytes(buffer)

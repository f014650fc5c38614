"""The files beside the weights in a checkpoint's folder: configuration, tokenizer and the like."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from bioconvert.checkpoint.layout import MANIFEST
from bioconvert.checkpoint.manifest import FileRecord
from bioconvert.checkpoint.regular_files import blocks, open_regular, sha256_of, size_of
from bioconvert.checkpoint.shards import INDEX_SUFFIX
from bioconvert.checkpoint.staging import write_hashed

_WEIGHTS = (
    ".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pt2", ".h5", ".msgpack", ".onnx", ".gguf", ".npz",
    ".pkl", ".tflite", ".ot", ".mlmodel", ".distcp",
)  # fmt: skip


def side_files(folder: Path) -> tuple[Path, ...]:
    """List the files to be carried over: regular, not hidden, no weights and no index of any."""
    return tuple(sorted(path for path in folder.iterdir() if _is_side_file(path)))


def _is_side_file(path: Path) -> bool:
    name = path.name
    if name.startswith(".") or name == MANIFEST or name.endswith(INDEX_SUFFIX):
        return False
    return path.suffix.lower() not in _WEIGHTS and path.is_file()


def copy_files(paths: Iterable[Path], folder: Path) -> dict[str, FileRecord]:
    """Copy files byte by byte into a folder."""
    records: dict[str, FileRecord] = {}
    for path in paths:
        with open_regular(path) as handle:
            records[path.name] = write_hashed(folder / path.name, blocks(handle, 0, size_of(handle)))
    return records


def sha256_of_files(paths: Iterable[Path]) -> str:
    """Give the hash of one file, or that of the names and hashes of several."""
    hashes = {path.name: sha256_of(path) for path in paths}
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    lines = "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes))
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()

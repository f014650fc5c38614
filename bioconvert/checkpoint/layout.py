"""Which files a path stands for: one file, the shards of an index, or the weights of a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bioconvert.checkpoint.shards import INDEX_SUFFIX, ShardIndex, check_inside, read_index
from bioconvert.checkpoint.sniff import sniff
from bioconvert.core.errors import CheckpointError, UnsafeFileError

MANIFEST = "bioconvert.json"
CONFIG = "config.json"

Format = Literal[
    "safetensors",
    "sharded safetensors",
    "sharded torch",
    "torch zip",
    "torch legacy",
    "huggingface",
    "bioconvert",
]

_WEIGHTS = (
    "model.safetensors",
    "model.safetensors" + INDEX_SUFFIX,
    "pytorch_model.bin",
    "pytorch_model.bin" + INDEX_SUFFIX,
)
_PATTERNS = (
    "*.safetensors" + INDEX_SUFFIX,
    "*.safetensors",
    "*.bin" + INDEX_SUFFIX,
    "*.pt",
    "*.pth",
    "*.bin",
    "*.ckpt",
)


@dataclass(frozen=True, slots=True)
class Layout:
    """The weight files behind a path.

    Args:
        path: what was given.
        format: how it is laid out.
        files: the files with tensors in them; empty for a folder of ours, whose manifest names them.
        index: the index, where there are shards.
    """

    path: Path
    format: Format
    files: tuple[Path, ...] = ()
    index: ShardIndex | None = None


def locate(path: Path) -> Layout:
    """Find the weight files that a path stands for.

    Raises:
        CheckpointError: nothing there, nothing usable, or more than one thing it could mean.
        UnsafeFileError: a folder that can only be read by running code.
    """
    if path.is_dir():
        return _locate_in_folder(path)
    if not path.exists():
        raise CheckpointError(f"{path}: there is no such file or folder")
    return _locate_file(path)


def _locate_file(path: Path) -> Layout:
    found = sniff(path)
    if found != "safetensors index":
        return Layout(path, found, (path,))
    index = read_index(path)
    kinds = {sniff(file) for file in index.files}
    return Layout(
        path, "sharded safetensors" if kinds == {"safetensors"} else "sharded torch", index.files, index
    )


def _locate_in_folder(folder: Path) -> Layout:
    if (folder / MANIFEST).exists():
        return Layout(folder, "bioconvert")
    weights = _weights_in(folder)
    check_inside(weights)
    layout = _locate_file(weights)
    kind: Format = "huggingface" if (folder / CONFIG).exists() else layout.format
    return Layout(folder, kind, layout.files, layout.index)


def _weights_in(folder: Path) -> Path:
    for name in _WEIGHTS:
        if (folder / name).exists():
            return folder / name
    if (folder / ".metadata").exists() or any(folder.glob("*.distcp")):
        raise UnsafeFileError(
            f"{folder}: is a distributed checkpoint, whose metadata is a pickle that would run code; "
            "consolidate it into one safetensors file where it was made"
        )
    for pattern in _PATTERNS:
        found = sorted(file for file in folder.glob(pattern) if not file.name.startswith("."))
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(file.name for file in found[:5])
            raise CheckpointError(f"{folder}: holds {len(found)} checkpoints; name one of them: {names}")
    raise CheckpointError(
        f"{folder}: holds no checkpoint (model.safetensors, an index of shards, pytorch_model.bin)"
    )

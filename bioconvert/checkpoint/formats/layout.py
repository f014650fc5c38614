"""Which files a path stands for: one file, the shards of an index, or the weights of a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bioconvert.checkpoint.files.needs_code import NeedsCodeError
from bioconvert.checkpoint.files.shards import INDEX_SUFFIX, ShardIndex, check_inside, read_index
from bioconvert.checkpoint.files.sniff import sniff
from bioconvert.core.errors import CheckpointError

MANIFEST = "bioconvert.json"
CONFIG = "config.json"

Format = Literal[
    "safetensors",
    "sharded safetensors",
    "sharded torch",
    "torch zip",
    "torch legacy",
    "huggingface",
    "distributed",
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
    "*.pt2",
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


def locate(path: Path, *, unsafe_pickle: bool = False) -> Layout:
    """Find the weight files that a path stands for.

    Args:
        path: a file or folder.
        unsafe_pickle: whether a folder may be one that only code in it can read.

    Raises:
        CheckpointError: nothing there, nothing usable, or more than one thing it could mean.
        NeedsCodeError: a folder that can only be read by running code.
    """
    if path.is_dir():
        return _locate_in_folder(path, unsafe_pickle=unsafe_pickle)
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


def _locate_in_folder(folder: Path, *, unsafe_pickle: bool) -> Layout:
    if (folder / MANIFEST).exists():
        return Layout(folder, "bioconvert")
    if _is_distributed(folder):
        if not unsafe_pickle:
            raise NeedsCodeError(
                folder,
                "is a distributed checkpoint (DCP, FSDP), whose metadata is a pickle that would run code",
            )
        return Layout(folder, "distributed", (folder / ".metadata", *sorted(folder.glob("*.distcp"))))
    weights = _weights_in(folder)
    check_inside(weights)
    layout = _locate_file(weights)
    kind: Format = "huggingface" if (folder / CONFIG).exists() else layout.format
    return Layout(folder, kind, layout.files, layout.index)


def _is_distributed(folder: Path) -> bool:
    if any((folder / name).exists() for name in _WEIGHTS):
        return False
    return (folder / ".metadata").exists() or any(folder.glob("*.distcp"))


def _weights_in(folder: Path) -> Path:
    for name in _WEIGHTS:
        if (folder / name).exists():
            return folder / name
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

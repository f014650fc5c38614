"""The files beside the weights in a checkpoint's folder: configuration, tokenizer and the like."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from bioconvert.checkpoint.files.regular_files import blocks, open_regular, size_of
from bioconvert.checkpoint.files.shards import INDEX_SUFFIX, check_inside
from bioconvert.checkpoint.folders.config_mark import marked, unmarked
from bioconvert.checkpoint.folders.manifest import FileRecord
from bioconvert.checkpoint.formats.layout import CONFIG, MANIFEST
from bioconvert.checkpoint.output.new_files import write_hashed
from bioconvert.core.errors import CheckpointError

_MAX_CONFIG = 16 << 20
"""Bytes of a configuration that is looked into; one of transformers has some thousand."""
_WEIGHTS = (
    ".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pt2", ".h5", ".msgpack", ".onnx", ".gguf", ".npz",
    ".pkl", ".tflite", ".ot", ".mlmodel", ".distcp",
)  # fmt: skip


def side_files(folder: Path) -> tuple[Path, ...]:
    """List the files to be carried over: regular, not hidden, no weights and no index of any.

    Raises:
        CheckpointError: a name isn't UTF-8, so that no manifest can list it.
        UnsafeFileError: one is a link out of the folder, whose content would appear in the copy.
    """
    found = tuple(sorted(path for path in folder.iterdir() if _is_side_file(path)))
    odd = next((path for path in found if _lacks_utf8(path.name)), None)
    if odd is not None:
        raise CheckpointError(
            f"{folder}: the name of the file {os.fsencode(odd.name)!r} must be UTF-8; rename it"
        )
    for path in found:
        check_inside(path)
    return found


def _is_side_file(path: Path) -> bool:
    name = path.name
    if name.startswith(".") or name == MANIFEST or name.endswith(INDEX_SUFFIX):
        return False
    return path.suffix.lower() not in _WEIGHTS and path.is_file()


def _lacks_utf8(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def copy_files(paths: Iterable[Path], folder: Path, *, mark: bool = False) -> dict[str, FileRecord]:
    """Copy files byte by byte into a folder.

    Args:
        paths: the files.
        folder: where to.
        mark: whether the folder holds a converted model, which a configuration of transformers then says;
            otherwise one that says so of its source loses the mark.
    """
    return {path.name: _copy(path, folder / path.name, mark=mark) for path in paths}


def _copy(path: Path, target: Path, *, mark: bool) -> FileRecord:
    with open_regular(path) as handle:
        size = size_of(handle)
        if path.name != CONFIG or size > _MAX_CONFIG:
            return write_hashed(target, blocks(handle, 0, size))
        text = b"".join(map(bytes, blocks(handle, 0, size)))
    return write_hashed(target, [marked(text, path) if mark else unmarked(text, path)])

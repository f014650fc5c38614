"""Of which format a file is, judged by its bytes; the suffix only decides how a failure is worded."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import BinaryIO, Literal

from bioconvert.checkpoint.files.header import LENGTH_BYTES, MAX_HEADER
from bioconvert.checkpoint.files.regular_files import open_regular, size_of
from bioconvert.core.errors import CheckpointError, CorruptFileError

FileFormat = Literal["safetensors", "safetensors index", "torch zip", "torch legacy"]

_PEEK = 1024
_PICKLE_PROTOCOLS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_LFS = b"version https://git-lfs.github.com/spec/"
_HTML = (b"<!doctype", b"<html", b"<?xml", b"<head", b"<!--")
_ONNX = re.compile(
    rb"\x08[\x01-\x14]\x12.(?:pytorch|onnx|tf2onnx|keras2onnx|skl2onnx|pytorch-lightning)", re.DOTALL
)
"""A protobuf whose first fields are a version of ONNX and the name of a producer."""
_TF_BUNDLE = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"
"""The last bytes of a table of TensorFlow's checkpoints (``.index``)."""
_FOREIGN: tuple[tuple[bytes, str], ...] = (
    (b"GGUF", "a GGUF file; export the original weights as safetensors"),
    (b"\x89HDF", "an HDF5 file; load it in Keras and export the weights as safetensors"),
    (b"\x93NUMPY", "a NumPy array; save a dict of named tensors with safetensors instead"),
    (b"ggjt", "a GGML file; export the original weights as safetensors"),
    (b"lmgg", "a GGML file; export the original weights as safetensors"),
    (b"tjgg", "a GGML file; export the original weights as safetensors"),
    (b"\x1f\x8b", "compressed with gzip; unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it first"),
    (b"BZh", "compressed with bzip2; unpack it first"),
    (b"\xfd7zXZ\x00", "compressed with xz; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd; unpack it first"),
)


def sniff(path: Path) -> FileFormat:
    """Say of which format a file is.

    Raises:
        CheckpointError: no regular file, not readable, or of a format that isn't read; the text gives advice.
        CorruptFileError: empty, a web page or pointer in place of the file, or of no known format.
    """
    with open_regular(path) as handle:
        return sniff_open(handle, path)


def sniff_open(handle: BinaryIO, path: Path) -> FileFormat:
    """Say of which format an open file is; see :func:`sniff`."""
    size = size_of(handle)
    handle.seek(0)
    head = handle.read(_PEEK)
    if not head:
        raise CorruptFileError(f"{path}: is empty; copy or download it again")
    if _is_safetensors(head):
        return "safetensors"
    if head.startswith(b"PK\x03\x04"):
        return "torch zip"
    if head.startswith(_PICKLE_PROTOCOLS):
        return "torch legacy"
    _refuse_stand_ins(path, head)
    _refuse_foreign(path, head)
    if head.lstrip().startswith(b"{"):
        return "safetensors index"
    if _ends_with(handle, size, _TF_BUNDLE):
        raise CheckpointError(
            f"{path}: is the index of a TensorFlow checkpoint; convert its weights to safetensors there"
        )
    if not any(head) and size > 0:
        raise CorruptFileError(f"{path}: begins with zeros only; it was never completely written")
    raise CorruptFileError(f"{path}: is in no known checkpoint format; it is damaged or something else")


def _ends_with(handle: BinaryIO, size: int, magic: bytes) -> bool:
    if size < len(magic):
        return False
    handle.seek(-len(magic), os.SEEK_END)
    return handle.read(len(magic)) == magic


def _is_safetensors(head: bytes) -> bool:
    length = int.from_bytes(head[:LENGTH_BYTES], "little")
    return length <= MAX_HEADER and head[LENGTH_BYTES : LENGTH_BYTES + 1] == b"{"


def _refuse_stand_ins(path: Path, head: bytes) -> None:
    """Refuse what a failed download leaves in place of a file."""
    if head.startswith(_LFS):
        raise CorruptFileError(f"{path}: is a git-LFS pointer, not the file itself; run 'git lfs pull'")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(_HTML):
        raise CorruptFileError(
            f"{path}: is a web page, not a checkpoint; the download needs another address or a login"
        )


def _refuse_foreign(path: Path, head: bytes) -> None:
    for magic, what in _FOREIGN:
        if head.startswith(magic):
            raise CheckpointError(f"{path}: is {what}")
    if head[4:8] == b"TFL3":
        raise CheckpointError(
            f"{path}: is a TensorFlow Lite model; export the original weights as safetensors"
        )
    if _ONNX.match(head):
        raise CheckpointError(
            f"{path}: is an ONNX model, which holds a graph and no module; convert the checkpoint behind it"
        )
    if head[257:262] == b"ustar":
        raise CheckpointError(
            f"{path}: is a tar archive; unpack it, or load and save it again with a new torch"
        )
    if head.startswith(b"PK"):
        raise CorruptFileError(f"{path}: is an empty or split zip archive; copy or download it again")

"""The header of a safetensors file, parsed strictly and without torch.

A file is eight bytes with the header's length, the header (JSON), and the tensors' bytes without a gap. The
reference reader accepts duplicate keys; here whatever two readers could understand in two ways is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from bioconvert.checkpoint.files.dtypes import BITS, byte_count
from bioconvert.checkpoint.files.regular_files import open_regular, read_at, size_of
from bioconvert.checkpoint.files.strict_json import parse_object
from bioconvert.core.errors import CorruptFileError, UnsafeFileError

LENGTH_BYTES = 8
MAX_HEADER = 100_000_000
"""The bound of the format's reference implementation."""
MAX_TENSORS = 250_000
"""More than twice the tensors of the largest public models; their header parses within some hundred MiB."""
MAX_VALUES = 12 * MAX_TENSORS
"""Three fields, two lists and an object a tensor, with a shape of five sizes and its separators."""
_MAX_SIZE = 1 << 63
_MAX_DIMENSIONS = 64
_ZIP = b"PK\x03\x04\x14"
"""How a zip file of version 2.0 begins; as the length of a header that would be far too much."""
_FIELDS = {"dtype", "shape", "data_offsets"}


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor in a safetensors file.

    Args:
        name: its key.
        dtype: number format, by its name in the file (``"F32"``).
        shape: size of each dimension.
        start: offset of the first byte within the file.
        stop: offset after the last byte.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Header:
    """What a safetensors file says of itself.

    Args:
        path: the file.
        tensors: entries by name, in the order of their bytes.
        metadata: the free texts under ``__metadata__``.
        size: size of the whole file in bytes.
        data_start: offset of the first tensor byte.
    """

    path: Path
    tensors: Mapping[str, TensorEntry]
    metadata: Mapping[str, str] = field(default_factory=dict)
    size: int = 0
    data_start: int = 0


def read_header(path: Path) -> Header:
    """Read and check the header of a safetensors file.

    Raises:
        CheckpointError: no regular file, or not readable.
        CorruptFileError: the header is damaged or contradicts the file's size.
        UnsafeFileError: it lists an absurd number of tensors.
    """
    with open_regular(path) as handle:
        return header_of(handle, path)


def header_of(handle: BinaryIO, path: Path) -> Header:
    """Read and check the header of an open safetensors file; see :func:`read_header`.

    A ``model.pt`` that we wrote has a table of the same form.
    """
    size = size_of(handle)
    if size > LENGTH_BYTES and _read(handle, 0, LENGTH_BYTES).startswith(_ZIP):
        from bioconvert.checkpoint.files.torch_table import table_of

        return table_of(handle, path)
    text = _header_text(handle, path, size)
    fields = parse_object(text, f"{path}: the header", most=MAX_VALUES)
    metadata = _metadata(path, fields.pop("__metadata__", {}))
    data_start = LENGTH_BYTES + len(text)
    entries = [entry_of(path, name, value, data_start) for name, value in fields.items()]
    entries.sort(key=lambda entry: (entry.start, entry.stop, entry.name))
    _check_cover(path, entries, data_start, size)
    return Header(path, {entry.name: entry for entry in entries}, metadata, size, data_start)


def _header_text(handle: BinaryIO, path: Path, size: int) -> bytes:
    if size < LENGTH_BYTES + 2:
        raise CorruptFileError(f"{path}: {size} bytes are too few for a safetensors file")
    length = int.from_bytes(_read(handle, 0, LENGTH_BYTES), "little")
    if length < 2:
        raise CorruptFileError(f"{path}: the header must have at least 2 bytes, but claims {length}")
    if length > MAX_HEADER:
        raise CorruptFileError(
            f"{path}: the header must have at most {MAX_HEADER} bytes, but claims {length}"
        )
    if length > size - LENGTH_BYTES:
        raise CorruptFileError(
            f"{path}: the header claims {length} bytes, but the file ends after {size}; it is cut short"
        )
    text = _read(handle, LENGTH_BYTES, length)
    if not text.startswith(b"{"):
        raise CorruptFileError(f"{path}: the header must begin with '{{'; this is no safetensors file")
    if text.count(b"[") > 2 * MAX_TENSORS:  # every tensor has two lists, and a bracket can't be escaped
        raise UnsafeFileError(f"{path}: lists more than {MAX_TENSORS} tensors; no checkpoint needs as many")
    return text


def _read(handle: BinaryIO, offset: int, length: int) -> bytes:
    buffer = bytearray(length)
    read_at(handle, offset, memoryview(buffer))
    return bytes(buffer)


def _metadata(path: Path, value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise CorruptFileError(f"{path}: __metadata__ must map names to texts")
    return value


def entry_of(path: Path, name: str, value: object, data_start: int) -> TensorEntry:
    """Check the description of one tensor.

    Raises:
        CorruptFileError: it is malformed, or its bytes aren't what its format and shape take.
    """
    where = f"{path}: tensor {name[:200]!r}"
    if not isinstance(value, dict) or set(value) != _FIELDS:
        raise CorruptFileError(f"{where} must have exactly the fields dtype, shape and data_offsets")
    dtype = value["dtype"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise CorruptFileError(f"{where} has the unknown dtype {str(dtype)[:40]!r}")
    shape = _sizes(value["shape"], f"{where}: the shape")
    offsets = _sizes(value["data_offsets"], f"{where}: data_offsets")
    if len(offsets) != 2 or offsets[0] > offsets[1]:
        raise CorruptFileError(f"{where}: data_offsets must be a start and a stop, not {list(offsets)[:4]}")
    needed = _possible_bytes(dtype, shape)
    if needed is None:
        raise CorruptFileError(f"{where}: {dtype} of shape {list(shape)[:8]} is no possible tensor")
    if needed != offsets[1] - offsets[0]:
        raise CorruptFileError(
            f"{where}: {dtype} of shape {list(shape)} takes {needed} bytes, but has {offsets[1] - offsets[0]}"
        )
    return TensorEntry(name, dtype, shape, data_start + offsets[0], data_start + offsets[1])


def _possible_bytes(dtype: str, shape: tuple[int, ...]) -> int | None:
    """Give the size in bytes; ``None`` where a stride of such a tensor would overflow 63 bits."""
    if len(shape) > _MAX_DIMENSIONS:
        return None
    without_zeros = tuple(max(size, 1) for size in shape)
    if math.prod(without_zeros) * BITS[dtype] >= _MAX_SIZE:
        return None
    return byte_count(dtype, shape)


def _sizes(value: object, what: str) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise CorruptFileError(f"{what} must be a list of whole numbers")
    for size in value:
        if type(size) is not int or not 0 <= size < _MAX_SIZE:
            raise CorruptFileError(
                f"{what} must hold whole numbers from 0 to 2**63 - 1, not {str(size)[:40]}"
            )
    return tuple(value)


def _check_cover(path: Path, entries: list[TensorEntry], data_start: int, size: int) -> None:
    """Check that the tensors cover the data from end to end, none of it twice."""
    position = data_start
    for entry in entries:
        if entry.start != position:
            kind = "overlaps the one before it" if entry.start < position else "leaves a hole before it"
            raise CorruptFileError(f"{path}: tensor {entry.name[:200]!r} {kind}")
        position = entry.stop
    if position > size:
        raise CorruptFileError(
            f"{path}: {position - size} bytes are missing at the end; the file is cut short"
        )
    if position < size:
        raise CorruptFileError(f"{path}: {size - position} bytes at the end belong to no tensor")

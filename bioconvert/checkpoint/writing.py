"""Tensors into safetensors files, one tensor in memory at a time; nothing here needs torch.

The same tensors give the same bytes: names are sorted, wide formats first so that every tensor is aligned.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bioconvert.checkpoint.dtypes import BITS, stored_form
from bioconvert.checkpoint.header import LENGTH_BYTES
from bioconvert.checkpoint.manifest import FileRecord, TensorRecord
from bioconvert.checkpoint.shards import INDEX_SUFFIX
from bioconvert.checkpoint.staging import write_file, write_hashed

SHARD_SIZE = 5_000_000_000
"""Bytes of tensors a file holds at most; that of transformers."""
_ALIGNMENT = 8
_METADATA = {"format": "pt"}
"""transformers and others refuse a file that doesn't say so."""


@dataclass(frozen=True, slots=True)
class Payload:
    """A tensor to be written.

    Args:
        name: its key.
        dtype: number format, by its name in the manifest.
        shape: size of each dimension.
        nbytes: size in bytes.
        blocks: gives its bytes, row by row, without gaps.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    blocks: Callable[[], Iterable[memoryview]]


@dataclass
class Written:
    """What was written so far.

    Args:
        tensors: record of each tensor, by name.
        files: record of each file, by name.
    """

    tensors: dict[str, TensorRecord] = field(default_factory=dict)
    files: dict[str, FileRecord] = field(default_factory=dict)


def write_tensors(
    folder: Path, payloads: Sequence[Payload], *, stem: str = "model", shard_size: int = SHARD_SIZE
) -> Written:
    """Write ``STEM.safetensors``, or shards and their index where that would exceed ``shard_size`` bytes."""
    written = Written()
    shards = _split(sorted(payloads, key=lambda payload: payload.name), shard_size)
    for number, shard in enumerate(shards, start=1):
        single = f"{stem}.safetensors"
        name = single if len(shards) == 1 else f"{stem}-{number:05}-of-{len(shards):05}.safetensors"
        _write_one(folder / name, shard, written)
    if len(shards) > 1:
        name = f"{stem}.safetensors{INDEX_SUFFIX}"
        written.files[name] = write_hashed(folder / name, [_index(payloads, written.tensors)])
    return written


def _split(payloads: Sequence[Payload], shard_size: int) -> list[list[Payload]]:
    shards: list[list[Payload]] = [[]]
    room = shard_size
    for payload in payloads:
        if shards[-1] and payload.nbytes > room:
            shards.append([])
            room = shard_size
        shards[-1].append(payload)
        room -= payload.nbytes
    return shards


def _write_one(path: Path, payloads: Sequence[Payload], written: Written) -> None:
    ordered = sorted(payloads, key=lambda payload: (-BITS[stored_form(payload.dtype, ())[0]], payload.name))
    head = _head(ordered)
    hashes: dict[str, str] = {}
    size = write_file(path, _file_blocks(head, ordered, hashes))
    written.files[path.name] = FileRecord(size=size, sha256=hashlib.sha256(head).hexdigest())
    for payload in ordered:
        written.tensors[payload.name] = TensorRecord(
            file=path.name, dtype=payload.dtype, shape=payload.shape, sha256=hashes[payload.name]
        )


def _head(payloads: Iterable[Payload]) -> bytes:
    """Give the length and the header, padded so that the first tensor is aligned."""
    fields: dict[str, object] = {"__metadata__": _METADATA}
    position = 0
    for payload in payloads:
        dtype, shape = stored_form(payload.dtype, payload.shape)
        offsets = [position, position + payload.nbytes]
        fields[payload.name] = {"dtype": dtype, "shape": list(shape), "data_offsets": offsets}
        position = offsets[1]
    text = json.dumps(fields, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text


def _file_blocks(
    head: bytes, payloads: Iterable[Payload], hashes: dict[str, str]
) -> Iterator[bytes | memoryview]:
    yield head
    for payload in payloads:
        digest = hashlib.sha256()
        for block in payload.blocks():
            digest.update(block)
            yield block
        hashes[payload.name] = digest.hexdigest()


def _index(payloads: Iterable[Payload], tensors: Mapping[str, TensorRecord]) -> bytes:
    index = {
        "metadata": {"total_size": sum(payload.nbytes for payload in payloads)},
        "weight_map": {name: tensors[name].file for name in sorted(tensors)},
    }
    return (json.dumps(index, indent=2) + "\n").encode("ascii")

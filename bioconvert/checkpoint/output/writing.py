"""Tensors into safetensors files, one tensor in memory at a time; nothing here needs torch.

The same tensors give the same bytes: names are sorted, wide formats first so that every tensor is aligned.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bioconvert.checkpoint.files.dtypes import BITS, stored_form
from bioconvert.checkpoint.files.header import LENGTH_BYTES
from bioconvert.checkpoint.files.shards import INDEX_SUFFIX
from bioconvert.checkpoint.folders.manifest import FileRecord, TensorRecord
from bioconvert.checkpoint.output.journal import FinishedFile, Journal
from bioconvert.checkpoint.output.new_files import new_file, write_hashed
from bioconvert.checkpoint.output.publishing import sync_folder
from bioconvert.checkpoint.tensors.tensor_digest import TensorDigest
from bioconvert.core.errors import CheckpointError, TargetError
from bioconvert.core.progress import Transfer

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


@dataclass(frozen=True, slots=True)
class Output:
    """Where tensors are written to.

    Args:
        folder: the folder.
        journal: what puts finished files on record, and knows those that are there already.
        transfer: told of each block that is written.
    """

    folder: Path
    journal: Journal | None = None
    transfer: Transfer | None = None


def write_tensors(
    output: Output | Path, payloads: Sequence[Payload], *, stem: str = "model", shard_size: int = SHARD_SIZE
) -> Written:
    """Write ``STEM.safetensors``, or shards and their index where that would exceed ``shard_size`` bytes."""
    output = Output(output) if isinstance(output, Path) else output
    written = Written()
    shards = _split(sorted(payloads, key=lambda payload: payload.name), shard_size)
    for number, shard in enumerate(shards, start=1):
        single = f"{stem}.safetensors"
        name = single if len(shards) == 1 else f"{stem}-{number:05}-of-{len(shards):05}.safetensors"
        finished = finished_file(output, name, shard, _write_one)
        written.files[name] = finished.record
        written.tensors.update(finished.tensors)
    if len(shards) > 1:
        name = f"{stem}.safetensors{INDEX_SUFFIX}"
        written.files[name] = write_hashed(output.folder / name, [_index(payloads, written.tensors)])
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


def finished_file(
    output: Output,
    name: str,
    payloads: Sequence[Payload],
    write: Callable[[Output, str, Sequence[Payload]], FinishedFile],
) -> FinishedFile:
    """Write a file, unless it is there already."""
    there = None if output.journal is None else output.journal.files.get(name)
    if there is not None:
        if output.transfer is not None:
            output.transfer.skip(sum(payload.nbytes for payload in payloads))
        return there
    finished = write(output, name, payloads)
    if output.journal is not None:
        sync_folder(output.folder)
        output.journal.finish(finished)
    if output.transfer is not None:
        output.transfer.finish(name)
    return finished


def _write_one(output: Output, name: str, payloads: Sequence[Payload]) -> FinishedFile:
    ordered = sorted(payloads, key=lambda payload: (-BITS[stored_form(payload.dtype, ())[0]], payload.name))
    head = _head(ordered)
    digests = {payload.name: TensorDigest(payload.dtype, payload.shape) for payload in ordered}
    with new_file(output.folder / name) as file:
        file.put(head)
        for payload in ordered:
            for block in blocks_of(payload):
                file.put(block, digests[payload.name])
                if output.transfer is not None:
                    output.transfer.add(len(block))
    return FinishedFile(
        file=name,
        record=FileRecord(size=file.size, sha256=hashlib.sha256(head).hexdigest()),
        tensors={payload.name: digests[payload.name].record(name) for payload in ordered},
    )


def blocks_of(payload: Payload) -> Iterator[memoryview]:
    """Give the bytes of a tensor; a failure to read them is none of the target."""
    try:
        yield from payload.blocks()
    except OSError as error:
        if isinstance(error, TargetError):
            raise
        reason = error.strerror or error
        raise CheckpointError(f"tensor {payload.name!r} could not be read: {reason}") from error


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


def _index(payloads: Iterable[Payload], tensors: Mapping[str, TensorRecord]) -> bytes:
    index = {
        "metadata": {"total_size": sum(payload.nbytes for payload in payloads)},
        "weight_map": {name: tensors[name].file for name in sorted(tensors)},
    }
    return (json.dumps(index, indent=2) + "\n").encode("ascii")

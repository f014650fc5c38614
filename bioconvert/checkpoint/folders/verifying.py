"""Proving an output folder by its hashes; torch isn't needed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bioconvert.checkpoint.files.header import Header, header_of
from bioconvert.checkpoint.files.regular_files import blocks, open_regular, size_of
from bioconvert.checkpoint.files.shards import read_text
from bioconvert.checkpoint.files.strict_json import parse_object
from bioconvert.checkpoint.folders.manifest import (
    FileRecord,
    Manifest,
    TensorRecord,
    digest_of,
    read_manifest,
)
from bioconvert.checkpoint.folders.recorded_entry import entry_for
from bioconvert.checkpoint.formats.layout import MANIFEST
from bioconvert.checkpoint.output.journal import FinishedFile
from bioconvert.core.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing in an output folder that isn't as it was written.

    Args:
        file: name of the file.
        problem: what is wrong.
        tensor: name of the tensor, where it is about one.
    """

    file: str
    problem: str
    tensor: str | None = None

    def __str__(self) -> str:
        return (
            f"{self.file}: {self.problem}"
            if self.tensor is None
            else f"{self.file}: tensor {self.tensor!r} {self.problem}"
        )


def verify_folder(path: str | os.PathLike[str]) -> list[Finding]:
    """Compare every file and tensor of an output folder with its hash.

    Returns:
        What isn't as it was written; nothing for a sound folder.

    Raises:
        CheckpointError: the path is no folder of ours.
    """
    folder = Path(path)
    if not (folder / MANIFEST).exists():
        raise CheckpointError(f"{folder}: must be a folder that bioconvert wrote, with a {MANIFEST} in it")
    try:
        manifest = read_manifest(folder / MANIFEST)
    except CheckpointError as error:
        return [Finding(MANIFEST, _reason(error, folder / MANIFEST))]
    return list(_findings(folder, manifest))


def is_sound(path: Path, file: FinishedFile) -> bool:
    """Say whether a file of tensors has every byte that is on record."""
    try:
        with open_regular(path) as handle:
            return not any(_file_findings(handle, path, file.record, file.tensors))
    except CheckpointError:
        return False


def _findings(folder: Path, manifest: Manifest) -> Iterator[Finding]:
    text = read_text(folder / MANIFEST, (folder / MANIFEST).stat().st_size)
    if digest_of(parse_object(text, str(folder / MANIFEST))) != manifest.digest:
        yield Finding(MANIFEST, "was changed since it was written")
    for name, record in sorted(manifest.files.items()):
        listed = _tensors_in(name, manifest)
        try:
            with open_regular(folder / name) as handle:
                yield from _file_findings(handle, folder / name, record, listed)
        except CheckpointError as error:
            yield Finding(name, _reason(error, folder / name))
    for name in sorted({file.name for file in folder.iterdir()} - manifest.files.keys() - {MANIFEST}):
        yield Finding(name, "isn't listed in the manifest")


def _tensors_in(file: str, manifest: Manifest) -> dict[str, TensorRecord]:
    both = (*manifest.tensors.items(), *manifest.originals.items())
    return {name: record for name, record in both if record.file == file}


def _file_findings(
    handle: BinaryIO, path: Path, record: FileRecord, listed: Mapping[str, TensorRecord]
) -> Iterator[Finding]:
    size = size_of(handle)
    if size != record.size:
        yield Finding(path.name, f"has {size} bytes, but {record.size} were written")
    if not listed:
        if _sha256(handle, 0, size) != record.sha256:
            yield Finding(path.name, "isn't the file that was written")
        return
    header = header_of(handle, path)
    if _sha256(handle, 0, header.data_start) != record.sha256:
        yield Finding(path.name, "has another header than was written")
    yield from _tensor_findings(handle, header, listed)
    for name in sorted(header.tensors.keys() - listed.keys()):
        yield Finding(path.name, "isn't listed in the manifest", name)


def _tensor_findings(
    handle: BinaryIO, header: Header, listed: Mapping[str, TensorRecord]
) -> Iterator[Finding]:
    for name, record in sorted(listed.items()):
        try:
            entry = entry_for(header, name, record)
        except CheckpointError as error:
            yield Finding(header.path.name, _reason(error, header.path))
            continue
        if _sha256(handle, entry.start, entry.nbytes) != record.sha256:
            yield Finding(header.path.name, "doesn't have the bytes that were written", name)


def _sha256(handle: BinaryIO, offset: int, length: int) -> str:
    digest = hashlib.sha256()
    for block in blocks(handle, offset, length):
        digest.update(block)
    return digest.hexdigest()


def _reason(error: CheckpointError, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ")

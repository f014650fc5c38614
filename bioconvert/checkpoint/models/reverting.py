"""A converted folder → a plain checkpoint of the unconverted model; neither torch nor its code is used."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from bioconvert.checkpoint.files.header import header_of
from bioconvert.checkpoint.files.regular_files import blocks, open_regular, sha256_of
from bioconvert.checkpoint.files.shards import INDEX_SUFFIX
from bioconvert.checkpoint.folders.manifest import Manifest, TensorRecord, read_manifest
from bioconvert.checkpoint.folders.recorded_entry import entry_for
from bioconvert.checkpoint.formats.layout import MANIFEST
from bioconvert.checkpoint.output.output_folder import Content, write_folder
from bioconvert.checkpoint.output.writing import SHARD_SIZE, Payload
from bioconvert.core.errors import CheckpointError, CorruptFileError


def revert_folder(
    path: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    shard_size: int = SHARD_SIZE,
) -> Path:
    """Write the unconverted model of a converted folder as a plain checkpoint.

    What conversion added is dropped, what it overwrote gets its original values, all else keeps its present
    values; names are those of the source. Every tensor is checked against its hash on the way.

    Args:
        path: the converted folder.
        target: the folder to write.
        overwrite: whether a folder that isn't empty may be replaced.
        shard_size: bytes of tensors that one file may hold.

    Returns:
        The folder written.

    Raises:
        CheckpointError: the path is no folder of ours, or layers were widened or lost units.
        CorruptFileError: it is damaged or was changed.
        TargetError: the target is in use or can't be written; it is as it was.
    """
    folder = Path(path)
    if not (folder / MANIFEST).exists():
        raise CheckpointError(f"{folder}: must be a folder that bioconvert wrote, with a {MANIFEST} in it")
    manifest = read_manifest(folder / MANIFEST)
    resized = [entry["path"] for entry in (manifest.conversion or {}).get("resized", ())]
    if resized:
        raise CheckpointError(
            f"{folder}: layers have other sizes than they were built with ({', '.join(resized[:3])}), which "
            "only the model itself can undo: load it, revert it by bioconvert.revert, and save it"
        )
    prefix = manifest.source.prefix if manifest.source is not None and not manifest.prefix else ""
    content = Content(
        [_payload(folder, prefix + name, *found) for name, found in _original_records(manifest).items()],
        (),
        _files_beside(folder, manifest),
        shard_size,
    )
    write_folder(Path(target), content, _reverted(manifest, prefix), overwrite=overwrite)
    return Path(target)


def _original_records(manifest: Manifest) -> dict[str, tuple[str, TensorRecord]]:
    """Give, for each tensor of the original model, its name in the file with its value, and its record."""
    added = set(manifest.added)
    found = {name: (name, record) for name, record in manifest.tensors.items() if name not in added}
    leader = {name: group[0] for group in manifest.ties for name in group}
    for name, record in manifest.originals.items():
        found[leader.get(name, name)] = (name, record)
    return found


def _payload(folder: Path, name: str, stored: str, record: TensorRecord) -> Payload:
    path = folder / record.file
    with open_regular(path) as handle:
        entry = entry_for(header_of(handle, path), stored, record)

    def checked() -> Iterator[memoryview]:
        digest = hashlib.sha256()
        with open_regular(path) as handle:
            for block in blocks(handle, entry.start, entry.nbytes):
                digest.update(block)
                yield block
        if digest.hexdigest() != record.sha256:
            raise CorruptFileError(f"{path}: the bytes of tensor {stored!r} are not those that were written")

    return Payload(name, record.dtype, record.shape, entry.nbytes, checked)


def _files_beside(folder: Path, manifest: Manifest) -> list[Path]:
    found = []
    for name, record in manifest.files.items():
        if name not in manifest.tensor_files and not name.endswith((".safetensors", INDEX_SUFFIX)):
            if sha256_of(folder / name) != record.sha256:
                raise CorruptFileError(f"{folder / name}: isn't the file that was written")
            found.append(folder / name)
    return found


def _reverted(manifest: Manifest, prefix: str) -> Manifest:
    added = set(manifest.added)
    ties = tuple(
        tuple(prefix + name for name in group) for group in manifest.ties if not added.intersection(group)
    )
    return manifest.model_copy(
        update={
            "rules": [],
            "conversion": None,
            "added": (),
            "originals": {},
            "ties": ties,
            "frozen": tuple(name for name in manifest.frozen if name not in added),
            "prefix": manifest.prefix or prefix,
        }
    )

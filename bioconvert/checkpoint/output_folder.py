"""Filling an output folder: tensors, originals, the files beside them, and last of all the manifest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bioconvert.checkpoint.layout import MANIFEST
from bioconvert.checkpoint.manifest import Manifest, render_manifest
from bioconvert.checkpoint.side_files import copy_files
from bioconvert.checkpoint.staging import staged_folder, write_file
from bioconvert.checkpoint.writing import Payload, write_tensors

ORIGINALS = "originals"


@dataclass(frozen=True, slots=True)
class Content:
    """What goes into an output folder beside the manifest.

    Args:
        tensors: the tensors.
        originals: the values that conversion overwrote.
        beside: files to copy.
        shard_size: bytes of tensors that one file may hold.
    """

    tensors: Sequence[Payload]
    originals: Sequence[Payload]
    beside: Iterable[Path]
    shard_size: int


def write_folder(target: Path, content: Content, manifest: Manifest, *, overwrite: bool) -> None:
    """Write an output folder, complete or not at all.

    Args:
        target: the folder to appear.
        content: what goes into it.
        manifest: all but the records of tensors, originals and files, which are filled in.
        overwrite: whether a folder that isn't empty may be replaced.

    Raises:
        TargetError: the target is in use or can't be written; it is as it was.
    """
    with staged_folder(target, overwrite=overwrite) as staging:
        files = copy_files(content.beside, staging)
        written = write_tensors(staging, content.tensors, shard_size=content.shard_size)
        files.update(written.files)
        records = {"tensors": written.tensors, "originals": {}}
        if content.originals:
            kept = write_tensors(staging, content.originals, stem=ORIGINALS, shard_size=content.shard_size)
            files.update(kept.files)
            records["originals"] = kept.tensors
        complete = manifest.model_copy(update={**records, "files": files})
        write_file(staging / MANIFEST, [render_manifest(complete)])

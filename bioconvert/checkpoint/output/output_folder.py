"""Filling an output folder: tensors, originals, the files beside them, and last of all the manifest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bioconvert.checkpoint.files.regular_files import sha256_of
from bioconvert.checkpoint.folders.manifest import Manifest, render_manifest
from bioconvert.checkpoint.folders.side_files import copy_files
from bioconvert.checkpoint.folders.source_hash import SourceHash
from bioconvert.checkpoint.folders.verifying import is_sound
from bioconvert.checkpoint.formats.layout import MANIFEST
from bioconvert.checkpoint.output.journal import (
    Job,
    Journal,
    Opening,
    Recorded,
    changed_parts,
    digest_of_values,
)
from bioconvert.checkpoint.output.new_files import write_file
from bioconvert.checkpoint.output.preflight import check_space
from bioconvert.checkpoint.output.publishing import sync_folder
from bioconvert.checkpoint.output.staging import Staging, claimed
from bioconvert.checkpoint.output.writing import Output, Payload, write_tensors
from bioconvert.core.errors import TargetError
from bioconvert.core.progress import Transfer

if TYPE_CHECKING:
    from bioconvert.checkpoint.output.torch_file import TorchForm

ORIGINALS = "originals"
_SHOWN = 3
_SPARE = 1 << 18
"""Bytes that a folder may need beyond its tensors and the files beside them."""
_PER_TENSOR = 1 << 10
"""Bytes in headers, index and manifest that a tensor is taken to need."""


@dataclass(frozen=True, slots=True)
class Content:
    """What goes into an output folder beside the manifest.

    Args:
        tensors: the tensors.
        originals: the values that conversion overwrote.
        beside: files to copy.
        shard_size: bytes of tensors that one file may hold.
        torch_form: what lies around the tensors in one file for torch.load; ``None`` for safetensors.
        source_hash: the hash of what was converted, which may still be computed.
    """

    tensors: Sequence[Payload]
    originals: Sequence[Payload]
    beside: Sequence[Path]
    shard_size: int
    torch_form: TorchForm | None = None
    source_hash: SourceHash | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that the tensors take."""
        return sum(payload.nbytes for payload in (*self.tensors, *self.originals))

    @property
    def need(self) -> int:
        """Bytes of disk space that the folder takes, a little more than less."""
        beside = sum(path.stat().st_size for path in self.beside)
        tensors = len(self.tensors) + len(self.originals)
        return self.nbytes + beside + tensors * _PER_TENSOR + _SPARE


def write_folder(
    target: Path, content: Content, manifest: Manifest, *, overwrite: bool, job: Job | None = None
) -> None:
    """Write an output folder, complete or not at all.

    Args:
        target: the folder to appear.
        content: what goes into it.
        manifest: all but the records of tensors, originals and files, which are filled in.
        overwrite: whether a folder that isn't empty may be replaced.
        job: what makes the folder: with it, files that are finished when the work is interrupted are kept,
            and the same job can go on from there.

    Raises:
        TargetError: the target is in use or can't be written, or what lies there unfinished is of another
            job; the target is as it was.
        ResourceError: there is too little disk space.
    """
    with claimed(target, overwrite=overwrite, resume=job is not None and job.resume) as staging:
        with _journal(staging, content, manifest, job) as journal:
            _make_room(staging.folder, journal)
            finished = () if journal is None else journal.files.values()
            check_space(staging.given, content.need - sum(file.record.size for file in finished))
            output = Output(staging.folder, journal, Transfer(f"writing {target}", content.nbytes))
            text = _fill(output, content, manifest)
            if journal is not None:
                journal.complete(text)
        staging.publish(overwrite=overwrite)


def _fill(output: Output, content: Content, manifest: Manifest) -> bytes:
    files = copy_files(content.beside, output.folder, mark=manifest.conversion is not None)
    if content.torch_form is None:
        written = write_tensors(output, content.tensors, shard_size=content.shard_size)
    else:
        from bioconvert.checkpoint.output.torch_file import write_torch_file

        written = write_torch_file(output, content.tensors, content.torch_form)
    files.update(written.files)
    records = {"tensors": written.tensors, "originals": {}}
    if content.originals:
        kept = write_tensors(output, content.originals, stem=ORIGINALS, shard_size=content.shard_size)
        files.update(kept.files)
        records["originals"] = kept.tensors
    source = manifest.source
    if source is not None and content.source_hash is not None:
        source = source.model_copy(update={"sha256": content.source_hash.result()})
    text = render_manifest(manifest.model_copy(update={**records, "files": files, "source": source}))
    write_file(output.folder / MANIFEST, [text])
    return text


@contextmanager
def _journal(
    staging: Staging, content: Content, manifest: Manifest, job: Job | None
) -> Iterator[Journal | None]:
    """Open the journal of a job, or go on with the one that is there."""
    if job is None:
        yield None
        return
    key = {**job.key, **_key(content, manifest)}
    recorded = staging.leftover()
    if recorded is None:
        recorded = Recorded(Opening.of(key, job.command))
    _check_key(staging.given, recorded.opening.key, key)
    sound = [name for name, file in recorded.files.items() if is_sound(staging.folder / name, file)]
    journal = Journal(staging.journal, recorded, sound)
    try:
        for folder in (staging.place, staging.target.parent):
            sync_folder(folder)
        yield journal
    finally:
        journal.close()


def check_begun(target: Path, job: Job) -> None:
    """Check, before anything is read, that a job may go on with what lies unfinished beside its target.

    Raises:
        TargetError: what makes the result is not as it was; what changed is named.
    """
    recorded = Staging(target).leftover() if job.resume else None
    if recorded is not None:
        begun = {name: recorded.opening.key.get(name) for name in job.key}
        _check_key(target, begun, job.key)


def _check_key(target: Path, begun: Mapping[str, Any], key: Mapping[str, Any]) -> None:
    changed = changed_parts(begun, key)
    if changed:
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        raise TargetError(
            f"{target}: the unfinished conversion beside it can't be continued, since "
            f"{', '.join(changed[:_SHOWN])}{more} changed; "
            "put back what it began with, or start anew by --overwrite (overwrite=True)"
        )


def _key(content: Content, manifest: Manifest) -> dict[str, Any]:
    """Give what decides the bytes of the folder and is known before they are written."""
    fields = manifest.model_dump(mode="json", exclude={"tensors", "originals", "files", "digest"})
    payloads = [
        [payload.name, payload.dtype, *payload.shape]
        for payloads in (content.tensors, content.originals)
        for payload in payloads
    ]
    return {
        "the versions in the manifest": fields.pop("tool"),
        "the source": fields.pop("source"),
        "the rules": digest_of_values(fields.pop("rules")),
        "the architecture": fields.pop("architecture"),
        "the converted model": digest_of_values(fields),
        "the tensors": digest_of_values(payloads),
        "the shard size": content.shard_size,
        "the format of the weights": "safetensors" if content.torch_form is None else "pt",
        "the files beside the weights": {path.name: sha256_of(path) for path in content.beside},
    }


def _make_room(folder: Path, journal: Journal | None) -> None:
    """Remove what an interrupted run has begun and not finished."""
    for path in folder.iterdir():
        if journal is None or path.name not in journal.files:
            path.unlink()

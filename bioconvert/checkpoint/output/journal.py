"""The journal of an unfinished output folder: what makes it, and which of its files are finished.

One JSON document a line: the opening, then a line for each finished file of tensors, each line on the disk
before the next file is begun, and at the end the hash of the manifest. A line cut short by a kill is as if it
had not been written.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from bioconvert.checkpoint.files.shards import check_file_name, read_text
from bioconvert.checkpoint.files.strict_json import parse_object
from bioconvert.checkpoint.folders.manifest import FileRecord, TensorRecord
from bioconvert.core.errors import CheckpointError

_MAX_JOURNAL = 1 << 30


@dataclass(frozen=True, slots=True)
class Job:
    """What makes an output folder, so that an interrupted run can be continued by the same work.

    Args:
        key: by a name for the user, whatever decides the bytes of the result and isn't in the manifest, as
            JSON values: the state of the source's files, the seed, hashes of sample data.
        command: what repeats the work, as JSON values.
        resume: whether to go on with what an interrupted run has left, if there is anything.
    """

    key: Mapping[str, Any]
    command: Mapping[str, Any]
    resume: bool = False


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Opening(_Line):
    """The first line.

    Args:
        journal: version of this format.
        key_text: everything that decides the bytes of the result, as JSON text in a string: file names need
            not be Unicode, which pydantic's own JSON insists on.
        command_text: what repeats the work, likewise.
    """

    journal: Literal[1] = 1
    key_text: str
    command_text: str

    @classmethod
    def of(cls, key: Mapping[str, Any], command: Mapping[str, Any]) -> Opening:
        """Make it of JSON values."""
        return cls(key_text=json.dumps(key), command_text=json.dumps(command))

    @field_validator("key_text", "command_text")
    @classmethod
    def _is_object(cls, text: str) -> str:
        try:
            parse_object(text.encode(), "the text")
        except CheckpointError as error:
            raise ValueError(str(error)) from None
        return text

    @property
    def key(self) -> dict[str, Any]:
        """Everything that decides the bytes of the result."""
        return dict(json.loads(self.key_text))

    @property
    def command(self) -> dict[str, Any]:
        """What repeats the work."""
        return dict(json.loads(self.command_text))


class FinishedFile(_Line):
    """The line of a file of tensors that is on the disk.

    Args:
        file: its name.
        record: its size and the hash of its header.
        tensors: the tensors in it, by name.
    """

    file: str
    record: FileRecord
    tensors: dict[str, TensorRecord]


class _Complete(_Line):
    complete: str


@dataclass
class Recorded:
    """What a journal says.

    Args:
        opening: its first line.
        files: the finished files by name.
        complete: hash of the manifest of the complete folder; ``None`` before that is written.
        length: bytes of the journal up to the last whole line.
    """

    opening: Opening
    files: dict[str, FinishedFile] = field(default_factory=dict)
    complete: str | None = None
    length: int = 0


class Journal:
    """A journal being written.

    Args:
        path: its file.
        recorded: what it says already; its lines are kept.
        sound: names of the finished files that were found as they are on record.
    """

    def __init__(self, path: Path, recorded: Recorded, sound: Iterable[str] = ()):
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self.files = {name: recorded.files[name] for name in sound}
        os.ftruncate(self._descriptor, recorded.length)
        os.lseek(self._descriptor, 0, os.SEEK_END)
        if not recorded.length:
            self._append(recorded.opening)

    def finish(self, file: FinishedFile) -> None:
        """Put a finished file on record."""
        self._append(file)
        os.fsync(self._descriptor)
        self.files[file.file] = file

    def complete(self, manifest: bytes) -> None:
        """Put on record that all files and the manifest are written."""
        self._append(_Complete(complete=hashlib.sha256(manifest).hexdigest()))
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _append(self, line: _Line) -> None:
        data = memoryview((line.model_dump_json() + "\n").encode("ascii", "backslashreplace"))
        while data:
            data = data[os.write(self._descriptor, data) :]


def read_journal(path: Path) -> Recorded | None:
    """Read a journal up to its last whole line; ``None`` where there is none with a finished file in it."""
    try:
        text = read_text(path, _MAX_JOURNAL)
    except CheckpointError:
        return None
    lines = text.split(b"\n")[:-1]
    try:
        recorded = Recorded(Opening.model_validate_json(lines[0]), length=len(lines[0]) + 1)
    except (IndexError, ValidationError):
        return None
    for line in lines[1:]:
        if not _take(line, recorded, path):
            break
        recorded.length += len(line) + 1
    return recorded if recorded.files else None


def _take(line: bytes, recorded: Recorded, path: Path) -> bool:
    """Add what a line says; ``False`` where it says nothing that can be used."""
    for form in (FinishedFile, _Complete):
        try:
            found = form.model_validate_json(line)
        except ValidationError:
            continue
        if isinstance(found, FinishedFile):
            check_file_name(found.file, path)
            recorded.files[found.file] = found
        else:
            recorded.complete = found.complete
        return True
    return False


def digest_of_values(values: object) -> str:
    """Give the hash of JSON values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode("ascii")).hexdigest()


def changed_parts(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Name the parts of a key that are not as they were."""
    known = json.loads(json.dumps(now))
    return [name for name in before | known if before.get(name) != known.get(name)]

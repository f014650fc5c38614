"""What a command was asked for, for ``resume`` to ask for the same, and what must not change until then."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bioconvert.checkpoint.files.shards import INDEX_SUFFIX
from bioconvert.version import __version__

if TYPE_CHECKING:
    from bioconvert.checkpoint.output.journal import Job
    from bioconvert.ruleset import RuleSet

_HEAD = 1 << 20
"""Bytes of a file that are hashed at once: the header of nearly every safetensors file, and more."""
_TAIL = 1 << 16


@dataclass(frozen=True, slots=True)
class Asked:
    """A command and its arguments.

    Args:
        command: its name.
        arguments: their values, by the names of its parameters.
        folder: the working directory.
    """

    command: str
    arguments: Mapping[str, Any]
    folder: Path

    @classmethod
    def here(cls, command: str, arguments: Mapping[str, Any]) -> Asked:
        """Take down what was asked for in this working directory."""
        return cls(command, arguments, Path.cwd())

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Asked:
        """Read it back; the reverse of :meth:`to_json`."""
        given = {name: _from_json(value) for name, value in values["arguments"].items()}
        return cls(values["command"], given, Path(values["folder"]))

    def to_json(self) -> dict[str, Any]:
        """Give it as values that JSON can hold."""
        given = {name: _to_json(value) for name, value in self.arguments.items()}
        return {"command": self.command, "arguments": given, "folder": str(self.folder)}


def job_of(asked: Asked, ruleset: RuleSet, files: Iterable[Path | None], *, resume: bool) -> Job:
    """Say what makes the result of a command.

    Args:
        asked: the command.
        ruleset: the rules by their content.
        files: what it reads, files or folders, where they are given.
        resume: whether it goes on with what an interrupted run has left.
    """
    from bioconvert.checkpoint.output.journal import Job, digest_of_values

    options = {name: _to_json(value) for name, value in asked.arguments.items() if name not in _NO_OPTIONS}
    key = {
        "the versions of bioconvert and torch": {"bioconvert": __version__, "torch": version_of("torch")},
        "the content of the rules": digest_of_values(ruleset.to_dict()),
        **{
            f"the file {file}": _state(file) for path in files if path is not None for file in _files_at(path)
        },
        "the options of the command": options,
    }
    return Job(key, asked.to_json(), resume)


_NO_OPTIONS = (
    "out",
    "overwrite",
    "resume",
    "rules",
    "dry_run",
    "every",
    "stream",
    "report",
    "as_json",
    "debug",
)
"""Arguments that decide nothing about the content of the result, or that count by what they lead to."""


def _files_at(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.is_file())
    if not path.name.endswith(INDEX_SUFFIX):
        return [path]
    from bioconvert.checkpoint.formats.layout import locate

    return [path, *locate(path).files]


def _state(file: Path) -> list[Any]:
    """Say how a file is: its size, the time of its last change, the hash of what it begins and ends with."""
    from bioconvert.checkpoint.files.regular_files import open_regular

    found = file.stat()
    with open_regular(file) as handle:
        parts = hashlib.sha256(handle.read(_HEAD))
        handle.seek(max(found.st_size - _TAIL, 0))
        parts.update(handle.read(_TAIL))
    return [found.st_size, found.st_mtime_ns, parts.hexdigest()]


def _to_json(value: Any) -> Any:
    if isinstance(value, Path):
        return {"path": os.fspath(value)}
    if isinstance(value, (list, tuple)):
        return [_to_json(item) for item in value]
    return value


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        return Path(value["path"])
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    return value

"""Files that only their own code can read: loaded in a process of their own, which hands plain tensors back.

That process has the rights of the user: it keeps memory, time and prints apart, and is no sandbox.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from bioconvert.checkpoint.files.shards import check_file_name, check_inside, read_text
from bioconvert.checkpoint.files.strict_json import parse_object
from bioconvert.checkpoint.folders.manifest import TensorRecord
from bioconvert.checkpoint.folders.recorded import read_recorded
from bioconvert.checkpoint.tensors.ties import leaders
from bioconvert.core.errors import (
    ArchitectureError,
    BioconvertError,
    CheckpointError,
    CorruptFileError,
    OptionError,
    UnsafeFileError,
    first_line,
)

ANSWER = "answer.json"
"""What the process found, in the folder that it was given."""
_SAID = "said.txt"
_SAID_SHOWN = 200
_SECONDS = 300
_BYTES_PER_SECOND = 10 << 20
_MEMORY = 4 << 30
"""What torch, transformers and the like take before any tensor is there."""
_COPIES = 4
_MAX_ANSWER = 1 << 30
_START = (
    "import sys, json; asked = json.loads(sys.argv[1]); sys.path[:] = asked.pop('search'); "
    "from bioconvert.checkpoint.formats.unsafe_reader import answer; answer(**asked)"
)
_log = logging.getLogger("bioconvert")


@dataclass(frozen=True, slots=True)
class Handed:
    """What the process handed back.

    Args:
        tensors: the tensors by name; tied names share one tensor.
        nesting: the keys that led to them, outermost first.
        passed_over: other places under which there are weights too.
        left_out: names of entries that are no tensors.
        architecture: of a whole pickled model, how it is built again, where that is known.
        beside: what else there is.
    """

    tensors: Mapping[str, torch.Tensor]
    nesting: tuple[str, ...]
    passed_over: tuple[str, ...]
    left_out: tuple[str, ...]
    architecture: Mapping[str, Any] | None
    beside: tuple[str, ...]


def read_by_code(path: Path, weights: str | None = None, *, seconds: float | None = None) -> Handed:
    """Let a file or folder run its code in another process, and take the tensors that it gives.

    Args:
        path: the file or folder.
        weights: keys that lead to the weights in a training dict, joined by ``/``.
        seconds: how long it may take; by default five minutes, and more for a large file.

    Raises:
        CheckpointError: it failed, or gave no usable tensors.
        UnsafeFileError: it took too long and was stopped.
    """
    _log.warning("%s: is loaded by its own code, in a process of its own, as --unsafe-pickle allows", path)
    size = _size(path)
    limit = _SECONDS + size / _BYTES_PER_SECOND if seconds is None else seconds
    with tempfile.TemporaryDirectory(prefix="bioconvert-") as name:
        folder = Path(name)
        asked = {
            "search": sys.path,
            "source": str(path),
            "folder": name,
            "weights": weights,
            "size": size,
            "memory": _MEMORY + _COPIES * size,
        }
        _run(json.dumps(asked), path, folder, limit)
        return _handed(folder, path)


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else (path,)
    return sum(file.stat().st_size for file in files if file.is_file())


def _run(asked: str, path: Path, folder: Path, seconds: float) -> None:
    said = folder / _SAID
    with said.open("wb") as output:
        process = _start(asked, output, folder)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise UnsafeFileError(
                f"{path}: its code ran for {seconds:.0f} s without an end; stopped"
            ) from None
        finally:
            _end(process)
    if process.returncode:
        raise CheckpointError(f"{path}: can't be loaded by its own code: {_last_words(process, said)}")


def _start(asked: str, output: BinaryIO, folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        # -I: nothing is imported from the working directory before the search path is ours.
        [sys.executable, "-I", "-c", _START, asked],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        # So that its temporary files go when the folder goes.
        env={**os.environ, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))},
        start_new_session=True,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and whatever it started."""
    if hasattr(os, "killpg"):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            _log.debug("nothing was left of process %d", process.pid)
    else:
        process.kill()
    process.wait()


def _last_words(process: subprocess.Popen[bytes], said: Path) -> str:
    if process.returncode < 0:
        return f"the process was killed by signal {-process.returncode}"
    with said.open("rb") as file:
        file.seek(max(said.stat().st_size - _SAID_SHOWN, 0))
        lines = file.read(_SAID_SHOWN).decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else f"the process ended with code {process.returncode}"


def _handed(folder: Path, path: Path) -> Handed:
    if not (folder / ANSWER).is_file():
        raise CheckpointError(f"{path}: its own code ended the process before anything was handed back")
    text = read_text(folder / ANSWER, _MAX_ANSWER)
    answer: dict[str, Any] = parse_object(text, f"{path}: what its code gave")
    try:
        if "error" in answer:
            raise _error(answer["error"]["kind"], answer["error"]["message"])
        return _collected(folder, answer)
    except BioconvertError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: its own code gave no usable answer ({first_line(error)})") from error


def _error(kind: str, message: str) -> BioconvertError:
    """Give an error of the kind that the process named; of any but ours, the plain one."""
    known = {
        each.__name__: each for each in (OptionError, ArchitectureError, UnsafeFileError, CorruptFileError)
    }
    return known.get(kind, CheckpointError)(str(message))


def _collected(folder: Path, answer: Mapping[str, Any]) -> Handed:
    # Strict validation takes no list for a tuple, which is all that JSON has.
    records = {
        name: TensorRecord.model_validate(record, strict=False) for name, record in answer["tensors"].items()
    }
    for record in records.values():
        check_file_name(record.file, folder)
        check_inside(folder / record.file)
    tensors = read_recorded(folder, records, verify=True)
    tensors.update({name: tensors[leader] for name, leader in leaders(answer["ties"]).items()})
    return Handed(
        {name: tensors[name] for name in answer["names"]},
        tuple(answer["nesting"]),
        tuple(answer["passed_over"]),
        tuple(answer["left_out"]),
        answer["architecture"],
        tuple(answer["beside"]),
    )

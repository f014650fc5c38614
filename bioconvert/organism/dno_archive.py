"""The file that dno writes: a zip of two JSON texts and the weights, judged before it is believed."""

from __future__ import annotations

import io
import json
import os
import pickle
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bioconvert.core.errors import CheckpointError, CorruptFileError, UnsafeFileError

TOPOLOGY, CONFIG, WEIGHTS = "topology.json", "config.json", "weights.pt"
_MAX_TEXT = 64 << 20
_MAX_PICKLE = 32 << 20
_SPARE = 64 << 20
_MOST_DENSE = 100
"""How many times its packed size an entry may have beyond :data:`_SPARE`; weights hardly get smaller."""
_DAMAGE = (zipfile.BadZipFile, EOFError, ValueError, OverflowError, NotImplementedError, zlib.error)


@dataclass(frozen=True, slots=True)
class DnoFile:
    """What a file holds.

    Args:
        topology: nodes, edges, and what happened.
        config: the settings by name.
        weights: the tensors by name.
    """

    topology: Mapping[str, Any]
    config: Mapping[str, Any]
    weights: Mapping[str, torch.Tensor]


def read_archive(path: Path) -> DnoFile:
    """Read a file; nothing in it is run, and nothing is unpacked to the disk.

    Raises:
        CheckpointError: there is no such file.
        UnsafeFileError: it would run code, unpacks to absurd sizes, or names places outside of itself.
        CorruptFileError: it is damaged, or no such file.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: must be a file")
    try:
        with zipfile.ZipFile(path) as archive:
            _check_entries(archive.infolist(), path)
            texts = [_object(_bytes(archive, name, path), name, path) for name in (TOPOLOGY, CONFIG)]
            weights = _weights(_bytes(archive, WEIGHTS, path), path)
    except _DAMAGE as error:
        raise CorruptFileError(f"{path}: is damaged, or no zip file ({error})") from None
    return DnoFile(texts[0], texts[1], weights)


def write_archive(path: Path, content: DnoFile) -> None:
    """Write a file, whole or not at all."""
    weights = io.BytesIO()
    torch.save(dict(content.weights), weights)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(TOPOLOGY, json.dumps(content.topology, indent=1, allow_nan=False))
            archive.writestr(CONFIG, json.dumps(content.config, indent=1, allow_nan=False))
            archive.writestr(WEIGHTS, weights.getvalue())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink()
        raise


def _check_entries(entries: list[zipfile.ZipInfo], path: Path) -> None:
    names = [entry.filename for entry in entries]
    wanted = {TOPOLOGY, CONFIG, WEIGHTS}
    odd = sorted({name for name in names if name not in wanted or names.count(name) > 1})
    if odd:
        raise UnsafeFileError(f"{path}: must hold {', '.join(sorted(wanted))} once each, but has {odd[0]!r}")
    missing = sorted(wanted - set(names))
    if missing:
        raise CorruptFileError(f"{path}: has no {', '.join(missing)}; it is damaged or not of dno")
    for entry in entries:
        limit = (_MAX_TEXT if entry.filename != WEIGHTS else _SPARE) + _MOST_DENSE * entry.compress_size
        if entry.file_size > limit:
            raise UnsafeFileError(
                f"{path}: {entry.filename} unpacks from {entry.compress_size} to {entry.file_size} bytes"
            )


def _bytes(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    entry = archive.getinfo(name)
    with archive.open(entry) as content:
        # One byte more than it claims would show that it lies.
        data = content.read(entry.file_size + 1)
    if len(data) != entry.file_size:
        raise CorruptFileError(f"{path}: {name} has {len(data)} of {entry.file_size} bytes")
    return data


def _object(data: bytes, name: str, path: Path) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(f"{path}: {name} is no JSON ({error})") from None
    if not isinstance(found, dict):
        raise CorruptFileError(f"{path}: {name} must hold an object, not a {type(found).__name__}")
    return found


def _weights(data: bytes, path: Path) -> dict[str, torch.Tensor]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        _check_weights(archive, len(data), path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UnsafeFileError(f"{path}: {WEIGHTS} would run code when loaded; nothing was run") from None
    except Exception as error:  # noqa: BLE001 - torch's unpickler fails in any way on damaged bytes
        raise CorruptFileError(f"{path}: {WEIGHTS} can't be read ({type(error).__name__})") from None
    if not isinstance(found, dict) or not all(_is_dense(name, value) for name, value in found.items()):
        raise CorruptFileError(f"{path}: {WEIGHTS} must hold dense tensors by name and nothing else")
    # An expanded tensor is small in the file and may be of any size.
    distinct = {(t.data_ptr(), t.shape, t.stride()): t.numel() * t.element_size() for t in found.values()}
    claimed = sum(distinct.values())
    if claimed > len(data) + _SPARE:
        raise UnsafeFileError(f"{path}: {WEIGHTS} has {len(data)} bytes, but its tensors claim {claimed}")
    return found


def _is_dense(name: object, value: object) -> bool:
    return (
        isinstance(name, str)
        and isinstance(value, torch.Tensor)
        and value.layout is torch.strided
        and not value.is_quantized
        and value.device.type == "cpu"
    )


def _check_weights(archive: zipfile.ZipFile, size: int, path: Path) -> None:
    entries = archive.infolist()
    if sum(entry.file_size for entry in entries) > size:
        raise UnsafeFileError(
            f"{path}: {WEIGHTS} has {size} bytes and unpacks to more; torch doesn't compress"
        )
    pickles = [entry for entry in entries if entry.filename.endswith("data.pkl")]
    if len(pickles) != 1 or pickles[0].file_size > _MAX_PICKLE:
        raise UnsafeFileError(f"{path}: {WEIGHTS} must be what torch.save writes, with one small pickle")
    damaged = archive.testzip()
    if damaged is not None:
        raise CorruptFileError(f"{path}: {WEIGHTS} is damaged at {damaged!r}")

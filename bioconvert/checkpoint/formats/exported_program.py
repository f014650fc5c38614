"""The state dict of an exported program (``.pt2``), read from its table of weights without any unpickling."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from bioconvert.checkpoint.files.needs_code import NeedsCodeError
from bioconvert.checkpoint.files.strict_json import parse_object
from bioconvert.core.errors import CheckpointError, CorruptFileError, UnsafeFileError

_WEIGHTS = "data/weights/"
_TABLE = "_weights_config.json"
_MAX_TABLE = 64 << 20
_MAX_VALUES = 5_000_000
"""Forty a tensor are usual."""
_DTYPES = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    10: torch.complex64,
    11: torch.complex128,
    12: torch.bool,
    13: torch.bfloat16,
    28: torch.uint16,
    29: torch.float8_e4m3fn,
    30: torch.float8_e5m2,
    31: torch.float8_e4m3fnuz,
    32: torch.float8_e5m2fnuz,
    33: torch.float8_e8m0fnu,
    34: torch.uint32,
    35: torch.uint64,
}
"""Number formats by their numbers in the schema of torch.export, which only ever adds to them."""


def read_exported(handle: BinaryIO, path: Path) -> dict[str, torch.Tensor]:
    """Read the parameters and persistent buffers of the exported program in an open zip file.

    Raises:
        NeedsCodeError: some of them are pickled.
        CheckpointError: there is no table of weights, or more than one.
        CorruptFileError: the table doesn't fit the weights.
    """
    handle.seek(0)
    with zipfile.ZipFile(handle) as archive:
        entries = {info.filename.partition("/")[2]: info for info in archive.infolist()}
        table = _table(archive, entries, path)
        storages: dict[str, torch.Tensor] = {}
        found: dict[str, torch.Tensor] = {}
        for name, given in table.items():
            file, dtype = _file_of(name, given, path), _dtype(given, name, path)
            if file not in storages:
                storages[file] = _storage(archive, entries, file, path)
            found[name] = _tensor(
                storages[file], dtype, given["tensor_meta"], f"{path}: tensor {name[:200]!r}"
            )
    return found


def _table(
    archive: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo], path: Path
) -> Mapping[str, Mapping[str, Any]]:
    names = [name for name in entries if name.startswith(_WEIGHTS) and name.endswith(_TABLE)]
    if len(names) != 1:
        if any(name.startswith(_WEIGHTS) and name.endswith(".pt") for name in entries):
            raise NeedsCodeError(path, "is an exported program whose weights are pickled")
        raise CheckpointError(
            f"{path}: is an exported program with {len(names)} tables of weights, and must have one; "
            "save the state_dict() of its model instead"
        )
    if entries[names[0]].file_size > _MAX_TABLE:
        raise UnsafeFileError(f"{path}: its table of weights is absurdly long")
    where = f"{path}: the table of weights"
    config = parse_object(archive.read(entries[names[0]]), where, most=_MAX_VALUES).get("config")
    if not isinstance(config, dict) or not all(isinstance(given, dict) for given in config.values()):
        raise CorruptFileError(f"{path}: the table of weights must hold a 'config' of tensors")
    pickled = [name for name, given in config.items() if given.get("use_pickle") is not False]
    if pickled:
        raise NeedsCodeError(
            path, f"is an exported program that would run code when loaded: {pickled[0][:120]!r} is pickled"
        )
    return config


def _file_of(name: str, given: Mapping[str, Any], path: Path) -> str:
    file = given.get("path_name")
    if not isinstance(file, str) or not isinstance(given.get("tensor_meta"), dict):
        raise CorruptFileError(f"{path}: the table of weights doesn't say where {name[:200]!r} is")
    return _WEIGHTS + file


def _dtype(given: Mapping[str, Any], name: str, path: Path) -> torch.dtype:
    code = given["tensor_meta"].get("dtype")
    if type(code) is not int or code not in _DTYPES:
        raise CorruptFileError(f"{path}: tensor {name[:200]!r} has a number format that isn't known")
    return _DTYPES[code]


def _storage(
    archive: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo], file: str, path: Path
) -> torch.Tensor:
    if file not in entries:
        raise CorruptFileError(f"{path}: lacks the weights {file[:200]!r} that its table names")
    content = bytearray(archive.read(entries[file]))
    return torch.frombuffer(content, dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)


def _tensor(raw: torch.Tensor, dtype: torch.dtype, meta: Mapping[str, Any], what: str) -> torch.Tensor:
    """Take the stored bytes for a tensor of the shape that the table gives."""
    try:
        sizes, strides = ([_whole(size) for size in meta[key]] for key in ("sizes", "strides"))
        storage = raw.view(dtype)
        return storage.as_strided(sizes, strides, _whole(meta["storage_offset"]))
    except (KeyError, TypeError, RuntimeError, ValueError, OverflowError):
        raise CorruptFileError(f"{what} doesn't fit the bytes that are stored for it") from None


def _whole(value: object) -> int:
    found = value.get("as_int") if isinstance(value, dict) else value
    if type(found) is not int or found < 0:
        raise ValueError("no whole number")
    return found

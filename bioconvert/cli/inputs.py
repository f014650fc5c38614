"""Sample inputs for a model: from a file, or random numbers of a given shape."""

from __future__ import annotations

import inspect
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from bioconvert.cli.source import require
from bioconvert.core.errors import CorruptFileError, OptionError, UnsafeFileError

if TYPE_CHECKING:
    import torch
    from torch import nn

Arguments = tuple["torch.Tensor", ...] | dict[str, "torch.Tensor"]

BATCH = 64
"""Samples that a model is called on at once."""
_NPY = b"\x93NUMPY"
_MOST_PACKED = 100
"""How many times larger than a compressed file its arrays may be; masks pack well."""
_SPARE = 64 << 20
_SHAPE = re.compile(r"\d{1,9}(\s*,\s*\d{1,9})*")
_POSITION = re.compile(r"(?:arr_)?(\d+)")
"""Names of positional arguments: numpy calls them ``arr_0``, ``arr_1``."""


@dataclass(frozen=True, slots=True)
class Samples:
    """What to call a model with: tensors of a file, or random numbers.

    Args:
        file: the file; ``None`` for random numbers.
        shape: their shape.
        seed: decides them.
    """

    file: Path | None
    shape: tuple[int, ...]
    seed: int

    def arguments(self, model: nn.Module) -> Arguments:
        """Give the arguments, floating-point ones in the data type of the model's parameters.

        Raises:
            OptionError: the names in the file fit no argument of the model.
            UnsafeFileError: the file holds objects that would run code.
            CorruptFileError: the file can't be read as any of the formats.
        """
        tensors = {"0": self._random()} if self.file is None else read_tensors(self.file)
        return _arranged(model, _cast(model, tensors))

    def batches(self, model: nn.Module) -> list[Arguments]:
        """Give the arguments in batches; what isn't as long as the first tensor belongs to each of them.

        Raises:
            OptionError: there is nothing in them, or as for :meth:`arguments`.
        """
        arguments = self.arguments(model)
        tensors = list(arguments.values() if isinstance(arguments, dict) else arguments)
        count = tensors[0].shape[0] if tensors and tensors[0].dim() else 0
        if count == 0:
            raise OptionError(f"{self.file}: holds no samples: they are counted along the first dimension")
        return [_part(arguments, count, slice(at, at + BATCH)) for at in range(0, count, BATCH)]

    def _random(self) -> torch.Tensor:
        from bioconvert.core.random import Stream

        return Stream(self.seed, "inputs").normal("sample", self.shape)


def samples(file: Path | None, shape: str | None, *, seed: int) -> Samples | None:
    """Check what ``--inputs`` and ``--input-shape`` say; ``None`` where neither is given.

    Raises:
        OptionError: both are given, or the shape can't be read.
        FileNotFoundError: there is no such file.
    """
    if file is not None and shape is not None:
        raise OptionError("give --inputs or --input-shape, not both")
    if file is not None:
        require(file)
        return Samples(file, (), seed)
    if shape is None:
        return None
    if _SHAPE.fullmatch(shape) is None:
        raise OptionError(f"--input-shape must be numbers with commas, as 1,3,224,224; given: {shape!r}")
    return Samples(None, tuple(int(length) for length in shape.split(",")), seed)


def read_tensors(file: Path) -> dict[str, torch.Tensor]:
    """Read a file of named tensors; positional ones are named by their numbers."""
    from bioconvert.checkpoint.files.sniff import sniff
    from bioconvert.checkpoint.formats.nesting import check_tensors
    from bioconvert.checkpoint.formats.pickled import load_pickled
    from bioconvert.checkpoint.tensors.safetensors_reader import read_safetensors

    if _is_numpy(file):
        return _read_numpy(file)
    form = sniff(file)
    if not form.startswith("torch"):
        return read_safetensors(file)[1]
    named = _named(file, load_pickled(file, form))
    check_tensors(named, file, file.stat().st_size)
    return named


def _part(arguments: Arguments, count: int, part: slice) -> Arguments:
    def of(tensor: torch.Tensor) -> torch.Tensor:
        return tensor[part] if tensor.dim() and tensor.shape[0] == count else tensor

    if isinstance(arguments, dict):
        return {name: of(tensor) for name, tensor in arguments.items()}
    return tuple(of(tensor) for tensor in arguments)


def _cast(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    dtypes = (parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())
    dtype = next(dtypes, None)
    return {name: t.to(dtype) if t.is_floating_point() else t for name, t in tensors.items()}


def _arranged(model: nn.Module, tensors: dict[str, torch.Tensor]) -> Arguments:
    """Give numbered tensors by position, others by name; a single one of any name is the first argument."""
    if all(_POSITION.fullmatch(name) for name in tensors):
        by_position = sorted(tensors.items(), key=lambda item: int(item[0].removeprefix("arr_")))
        return tuple(tensor for _, tensor in by_position)
    known = inspect.signature(model.forward).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in known.values()):
        return tensors
    if known.keys() >= tensors.keys():
        return tensors
    if len(tensors) == 1:
        return tuple(tensors.values())
    raise OptionError(
        f"the inputs must be named as the model's arguments ({', '.join(known)}) or numbered from 0; "
        f"given: {', '.join(tensors)}"
    )


def _is_numpy(file: Path) -> bool:
    from bioconvert.checkpoint.files.regular_files import open_regular

    with open_regular(file) as stream:
        if stream.read(len(_NPY)) == _NPY:
            return True
        if not zipfile.is_zipfile(stream):
            return False
        entries = _entries(file, stream)
    if not entries or not all(entry.filename.endswith(".npy") for entry in entries):
        return False
    claimed, size = sum(entry.file_size for entry in entries), file.stat().st_size
    if claimed > size * _MOST_PACKED + _SPARE:
        raise UnsafeFileError(f"{file}: has {size} bytes and unpacks to {claimed}; unpack it yourself")
    return True


def _entries(file: Path, stream: BinaryIO) -> list[zipfile.ZipInfo]:
    from bioconvert.checkpoint.files.zip_archive import check_directory

    check_directory(stream, file)
    try:
        with zipfile.ZipFile(stream) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, struct.error, ValueError, OverflowError, NotImplementedError) as error:
        raise CorruptFileError(f"{file}: is a damaged zip archive ({error}); write it again") from error


def _read_numpy(file: Path) -> dict[str, torch.Tensor]:
    import numpy as np
    import torch

    try:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"0": torch.from_numpy(loaded)}
        with loaded:
            arrays = dict(loaded)
        return {name: torch.from_numpy(array) for name, array in arrays.items()}
    except MemoryError as error:
        raise UnsafeFileError(f"{file}: asks for more memory than there is") from error
    except TypeError as error:
        raise OptionError(f"{file}: arrays must be of numbers ({error})") from error
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        kind = UnsafeFileError if "allow_pickle" in str(error) else CorruptFileError
        raise kind(f"{file}: not an array of plain numbers, or damaged") from error


def _named(file: Path, loaded: object) -> dict[str, torch.Tensor]:
    import torch

    if isinstance(loaded, torch.Tensor):
        loaded = (loaded,)
    if isinstance(loaded, (tuple, list)):
        loaded = {str(position): value for position, value in enumerate(loaded)}
    if isinstance(loaded, dict) and loaded and all(isinstance(v, torch.Tensor) for v in loaded.values()):
        return {str(name): tensor for name, tensor in loaded.items()}
    raise OptionError(f"{file}: must hold a tensor, a tuple of tensors or a dict of tensors")

"""Tensors out of a safetensors file, read with ordinary reads.

A memory-mapped file that gets shorter kills the process; a read that comes back short has a name.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import torch

from bioconvert.checkpoint.files.header import Header, TensorEntry, header_of
from bioconvert.checkpoint.files.regular_files import open_regular, read_at
from bioconvert.checkpoint.tensors.torch_dtypes import TORCH_DTYPES
from bioconvert.core.errors import CheckpointError


def read_safetensors(path: Path) -> tuple[Header, dict[str, torch.Tensor]]:
    """Read a whole safetensors file into memory.

    Raises:
        CheckpointError: not readable, or in a number format that torch doesn't have.
        CorruptFileError: damaged.
    """
    with open_regular(path) as handle:
        header = header_of(handle, path)
        unknown = [entry for entry in header.tensors.values() if entry.dtype not in TORCH_DTYPES]
        if unknown:
            raise CheckpointError(
                f"{path}: tensor {unknown[0].name!r} is {unknown[0].dtype}, which torch can't hold"
            )
        return header, {
            entry.name: as_tensor(read_bytes(handle, entry), entry.dtype, entry.shape)
            for entry in header.tensors.values()
        }


def read_bytes(handle: BinaryIO, entry: TensorEntry) -> torch.Tensor:
    """Read the bytes of one tensor of an open file, as a tensor of bytes.

    Raises:
        CorruptFileError: the file ends too early.
    """
    raw = torch.empty(entry.nbytes, dtype=torch.uint8)
    read_at(handle, entry.start, raw.numpy().data)
    return raw


def as_tensor(raw: torch.Tensor, dtype: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Take bytes for a tensor of a number format and shape, without a copy."""
    return raw.view(TORCH_DTYPES[dtype]).view(shape)

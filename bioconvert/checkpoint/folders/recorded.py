"""The tensors that a manifest lists, read from its folder and proven by their hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch

from bioconvert.checkpoint.files.header import header_of
from bioconvert.checkpoint.files.regular_files import open_regular
from bioconvert.checkpoint.folders.manifest import TensorRecord
from bioconvert.checkpoint.folders.recorded_entry import entry_for
from bioconvert.checkpoint.tensors.safetensors_reader import as_tensor, read_bytes
from bioconvert.core.errors import CorruptFileError


def read_recorded(
    folder: Path, records: Mapping[str, TensorRecord], *, verify: bool
) -> dict[str, torch.Tensor]:
    """Read the listed tensors.

    Args:
        folder: the output folder.
        records: name → where it lies and what it must be.
        verify: whether to hash the bytes and compare.

    Raises:
        CorruptFileError: a file or tensor is missing, another than listed, or has other bytes; it is named.
        CheckpointError: a file can't be opened.
    """
    found: dict[str, torch.Tensor] = {}
    for file in sorted({record.file for record in records.values()}):
        path = folder / file
        with open_regular(path) as handle:
            header = header_of(handle, path)
            for name, record in records.items():
                if record.file == file:
                    raw = read_bytes(handle, entry_for(header, name, record))
                    if verify and hashlib.sha256(raw.numpy().data).hexdigest() != record.sha256:
                        raise CorruptFileError(
                            f"{path}: the bytes of tensor {name!r} are not those that were written"
                        )
                    found[name] = as_tensor(raw, record.dtype, record.shape)
    return {name: found[name] for name in records}

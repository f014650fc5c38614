"""Some values of a model's weights, for histograms: a bounded number, spread over the whole tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bioconvert.checkpoint.files.dtypes import byte_count
from bioconvert.checkpoint.files.header import TensorEntry, header_of, read_header
from bioconvert.checkpoint.files.regular_files import open_regular, read_at
from bioconvert.checkpoint.files.sniff import sniff
from bioconvert.checkpoint.folders.manifest import Manifest, TensorRecord
from bioconvert.checkpoint.folders.recorded_entry import entry_for
from bioconvert.checkpoint.formats.layout import locate
from bioconvert.checkpoint.tensors.ties import leaders
from bioconvert.checkpoint.tensors.torch_dtypes import TORCH_DTYPES
from bioconvert.report.html.evidence import Weights

if TYPE_CHECKING:
    from torch import nn

VALUES = 1 << 17
"""Values of one tensor that are looked at."""
_PARTS = 32
"""Places in a tensor that they are taken from."""
_TENSORS = 60
_PLAIN = 24
"""Tensors of a model that wasn't converted: the largest."""
_FLOATING = ("F", "BF", "C")
_PRIMARY = ("replace", "wrap", "attach")


def converted_weights(folder: Path, manifest: Manifest) -> tuple[Weights, ...]:
    """Read values of each converted layer's weight, and of its original where conversion overwrote it."""
    by_bare = {manifest.bare(name): name for name in manifest.tensors}
    leader = {manifest.bare(name): manifest.bare(first) for name, first in leaders(manifest.ties).items()}
    added = {manifest.bare(name) for name in manifest.added}
    modules: Sequence[Mapping[str, Any]] = (manifest.conversion or {})["modules"]
    found = []
    for path in islice((m["path"] for m in modules if _is_primary(m)), _TENSORS):
        name = _main_tensor(path, manifest, by_bare, added)
        if name is not None:
            stored = by_bare[leader.get(name, name)]
            original = manifest.originals.get(name)
            found.append(
                Weights(
                    path,
                    name[len(path) + 1 if path else 0 :],
                    prod(manifest.tensors[stored].shape),
                    _recorded(folder, stored, manifest.tensors[stored]),
                    None if original is None else _recorded(folder, name, original),
                )
            )
    return tuple(found)


def file_weights(path: Path) -> tuple[Weights, ...]:
    """Read values of the largest tensors of a plain checkpoint; none where that would unpickle anything."""
    layout = locate(path)
    if not all(sniff(file) == "safetensors" for file in layout.files):
        return ()
    entries = [(file, entry) for file in layout.files for entry in read_header(file).tensors.values()]
    return tuple(_of_entry(file, entry) for file, entry in _largest(entries))


def recorded_weights(folder: Path, manifest: Manifest) -> tuple[Weights, ...]:
    """Read values of the largest tensors of a folder of ours in which nothing was converted."""
    files = sorted({record.file for record in manifest.tensors.values()})
    entries = [(folder / file, e) for file in files for e in read_header(folder / file).tensors.values()]
    return tuple(_of_entry(file, entry) for file, entry in _largest(entries))


def model_weights(model: nn.Module, paths: Sequence[str]) -> tuple[Weights, ...]:
    """Give values of the largest parameter of some modules of a model."""
    modules = dict(model.named_modules(remove_duplicate=False))
    found = []
    for path in islice(dict.fromkeys(path for path in paths if path in modules), _TENSORS):
        own = modules[path].named_parameters(recurse=False)
        name, tensor = max(own, key=lambda item: item[1].numel(), default=("", None))
        if tensor is not None and not tensor.is_meta:
            found.append(Weights(path, name, tensor.numel(), _of_tensor(tensor)))
    return tuple(found)


def _is_primary(module: Mapping[str, Any]) -> bool:
    return any(str(step["action"]).startswith(_PRIMARY) for step in module["steps"])


def _main_tensor(path: str, manifest: Manifest, by_bare: Mapping[str, str], added: set[str]) -> str | None:
    """Name the largest tensor that a module holds itself and that it had before."""
    prefix = f"{path}." if path else ""
    tied = {manifest.bare(name): group[0] for group in manifest.ties for name in group}
    own = {
        name: manifest.tensors[tied.get(name, by_bare.get(name, ""))]
        for name in (*by_bare, *tied)
        if name.startswith(prefix) and "." not in name[len(prefix) :] and name not in added
    }
    floating = {name: record for name, record in own.items() if record.dtype.startswith(_FLOATING)}
    return max(floating, key=lambda name: prod(floating[name].shape), default=None)


def _largest(entries: Sequence[tuple[Path, TensorEntry]]) -> list[tuple[Path, TensorEntry]]:
    wanted = [found for found in entries if found[1].dtype.startswith(_FLOATING) and len(found[1].shape) > 1]
    chosen = sorted(wanted, key=lambda found: (-found[1].nbytes, found[1].name))[:_PLAIN]
    return sorted(chosen, key=lambda found: entries.index(found))


def _of_entry(file: Path, entry: TensorEntry) -> Weights:
    path, _, name = entry.name.rpartition(".")
    return Weights(path, name, prod(entry.shape), _read(file, entry))


def _recorded(folder: Path, name: str, record: TensorRecord) -> np.ndarray:
    with open_regular(folder / record.file) as handle:
        entry = entry_for(header_of(handle, folder / record.file), name, record)
    return _read(folder / record.file, entry)


def _read(file: Path, entry: TensorEntry) -> np.ndarray:
    width = byte_count(entry.dtype, (1,)) or 1
    count = entry.nbytes // width
    parts = []
    with open_regular(file) as handle:
        for start, length in _places(count):
            raw = torch.empty(length * width, dtype=torch.uint8)
            read_at(handle, entry.start + start * width, raw.numpy().data)
            parts.append(raw)
    raw = torch.cat(parts) if parts else torch.empty(0, dtype=torch.uint8)
    return _as_numbers(raw.view(TORCH_DTYPES[entry.dtype]))


def _of_tensor(tensor: torch.Tensor) -> np.ndarray:
    flat = tensor.detach().reshape(-1)
    parts = [flat[start : start + length].cpu() for start, length in _places(flat.numel())]
    return _as_numbers(torch.cat(parts) if parts else flat.cpu())


def _as_numbers(values: torch.Tensor) -> np.ndarray:
    real = torch.view_as_real(values) if values.is_complex() else values
    wide = real.reshape(-1).to(torch.float64)
    found: np.ndarray = wide.numpy()
    return found


def _places(count: int) -> Iterator[tuple[int, int]]:
    """Say where to take values from: start and length of each part."""
    if count <= VALUES:
        yield from ((0, count),) if count else ()
        return
    length = VALUES // _PARTS
    for part in range(_PARTS):
        yield part * (count - length) // (_PARTS - 1), length

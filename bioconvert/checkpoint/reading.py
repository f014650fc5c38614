"""Any checkpoint → its tensors by name."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from bioconvert.checkpoint.layout import MANIFEST, Format, Layout, locate
from bioconvert.checkpoint.manifest import Manifest, read_manifest
from bioconvert.checkpoint.nesting import common_prefix, find_state
from bioconvert.checkpoint.pickled import load_pickled
from bioconvert.checkpoint.recorded import read_recorded
from bioconvert.checkpoint.safetensors_reader import read_safetensors
from bioconvert.checkpoint.shards import ShardIndex, check_names
from bioconvert.checkpoint.sniff import sniff
from bioconvert.checkpoint.ties import Ties, leaders, same_memory, tie_groups
from bioconvert.core.errors import CheckpointError, CorruptFileError, UnsafeFileError

_log = logging.getLogger("bioconvert")
_SPARE = 64 << 20
"""By how many bytes the tensors of a pickle may exceed its file: small tensors are expanded legitimately."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint in memory.

    Args:
        tensors: tensors by name, without nesting and prefix; tied names share one tensor.
        source: the file or folder it came from.
        format: how that is laid out.
        nesting: keys that led to the state dict in a training dict, outermost first.
        passed_over: other places in the same file where there are weights, as keys joined by ``/``.
        prefix: what wrappers had put before every name.
        ties: groups of names that stand for one tensor.
        left_out: names of entries in the state dict that are no tensors.
        metadata: the free texts of a safetensors file.
        manifest: that of a folder of ours.
    """

    tensors: Mapping[str, torch.Tensor]
    source: Path
    format: Format
    nesting: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()
    prefix: str = ""
    ties: Ties = ()
    left_out: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    manifest: Manifest | None = None


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint: safetensors or torch's pickles, a file or shards, transformers' or our folders.

    What a file is, its bytes say. Nothing in it is run. Training dicts are entered by a fixed order of keys,
    and prefixes that wrappers left on every name are taken off (not in a folder of transformers, where
    ``model.`` belongs to the names); both are recorded.

    Raises:
        CheckpointError: there is no usable checkpoint.
        UnsafeFileError: reading it would run code or take absurd amounts of memory.
        CorruptFileError: it is damaged.
    """
    layout = locate(Path(path))
    if layout.format == "bioconvert":
        return _read_ours(layout.path)
    if layout.index is None:
        found = replace(_read_file(layout.files[0]), source=layout.path, format=layout.format)
    else:
        found = _read_shards(layout, layout.index)
    if found.passed_over:
        taken = "/".join(found.nesting)
        _log.warning("%s: took %r and passed over %s", found.source, taken, ", ".join(found.passed_over))
    if found.left_out:
        _log.warning("%s: left out what is no tensor: %s", found.source, ", ".join(found.left_out[:5]))
    return _with_ties(found if layout.format == "huggingface" else _without_prefix(found))


def _read_ours(folder: Path) -> Checkpoint:
    manifest = read_manifest(folder / MANIFEST)
    read = read_recorded(folder, manifest.tensors, verify=False)
    read.update({name: read[leader] for name, leader in leaders(manifest.ties).items()})
    tensors = {manifest.bare(name): tensor for name, tensor in read.items()}
    ties = tuple(tuple(manifest.bare(name) for name in group) for group in manifest.ties)
    return Checkpoint(tensors, folder, "bioconvert", prefix=manifest.prefix, ties=ties, manifest=manifest)


def _read_shards(layout: Layout, index: ShardIndex) -> Checkpoint:
    tensors: dict[str, torch.Tensor] = {}
    left_out: tuple[str, ...] = ()
    for file in layout.files:
        part = _read_file(file)
        check_names(index, file, set(part.tensors))
        tensors.update(part.tensors)
        left_out += part.left_out
    return Checkpoint(tensors, layout.path, layout.format, left_out=left_out)


def _read_file(file: Path) -> Checkpoint:
    kind = sniff(file)
    if kind == "safetensors index":
        raise CorruptFileError(f"{file}: must hold tensors, but is an index")
    if kind == "safetensors":
        header, tensors = read_safetensors(file)
        return Checkpoint(tensors, file, kind, metadata=header.metadata)
    found = find_state(load_pickled(file, kind), file)
    _check_tensors(found.tensors, file)
    return Checkpoint(found.tensors, file, kind, found.nesting, found.passed_over, left_out=found.left_out)


def _check_tensors(tensors: Mapping[str, torch.Tensor], file: Path) -> None:
    """Refuse tensors that no state dict of plain modules has, and claims of more than the file can hold."""
    for name, tensor in tensors.items():
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise CheckpointError(
                f"{file}: tensor {name!r} must be dense and have values; make it so and save again"
            )
    distinct = {same_memory(tensor): tensor.numel() * tensor.element_size() for tensor in tensors.values()}
    claimed, size = sum(distinct.values()), file.stat().st_size
    if claimed > size + _SPARE:
        raise UnsafeFileError(f"{file}: has {size} bytes, but its tensors claim {claimed}")


def _without_prefix(found: Checkpoint) -> Checkpoint:
    prefix = common_prefix(found.tensors)
    if not prefix:
        return found
    _log.info("%s: every name begins with %r, which is taken off", found.source, prefix)
    tensors = {name[len(prefix) :]: tensor for name, tensor in found.tensors.items()}
    return replace(found, tensors=tensors, prefix=prefix)


def _with_ties(found: Checkpoint) -> Checkpoint:
    ties = tie_groups(found.tensors, same_memory)
    if not ties:
        return found
    shared = leaders(ties)
    tensors = {name: found.tensors[shared.get(name, name)] for name in found.tensors}
    return replace(found, tensors=tensors, ties=ties)

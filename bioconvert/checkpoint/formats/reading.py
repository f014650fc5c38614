"""Any checkpoint → its tensors by name."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from bioconvert.checkpoint.files.needs_code import NeedsCodeError
from bioconvert.checkpoint.files.shards import ShardIndex, check_names
from bioconvert.checkpoint.files.sniff import sniff
from bioconvert.checkpoint.folders.manifest import Manifest, read_manifest
from bioconvert.checkpoint.folders.recorded import read_recorded
from bioconvert.checkpoint.formats.layout import MANIFEST, Format, Layout, locate
from bioconvert.checkpoint.formats.nesting import check_tensors, find_state
from bioconvert.checkpoint.formats.pickled import load_pickled
from bioconvert.checkpoint.formats.prefix import common_prefix
from bioconvert.checkpoint.formats.unsafe import read_by_code
from bioconvert.checkpoint.tensors.safetensors_reader import read_safetensors
from bioconvert.checkpoint.tensors.ties import Ties, leaders, same_memory, tie_groups
from bioconvert.core.errors import CorruptFileError, OptionError

_log = logging.getLogger("bioconvert")
_SHOWN = 8


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
        architecture: of a whole pickled model, how it is built again, where that is known.
        said: what a training dict calls the architecture, without saying where that comes from.
        beside: what else a training dict holds, as keys joined by ``/``.
        by_code: whether it was loaded by its own code.
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
    architecture: Mapping[str, Any] | None = None
    said: str = ""
    beside: tuple[str, ...] = ()
    by_code: bool = False


@dataclass(frozen=True, slots=True)
class _How:
    """What :func:`read_checkpoint` was asked for."""

    weights: str | None
    unsafe_pickle: bool


def read_checkpoint(
    path: str | os.PathLike[str], *, weights: str | None = None, unsafe_pickle: bool = False
) -> Checkpoint:
    """Read a checkpoint: safetensors or torch's pickles, a file or shards, transformers' or our folders.

    What a file is, its bytes say. Nothing in it is run unless asked for. Training dicts are entered by a
    fixed order of keys, and prefixes that wrappers left on every name are taken off (not in a folder of
    transformers, where ``model.`` belongs to the names); both are recorded.

    Args:
        path: a file or folder.
        weights: keys that lead to the weights in a training dict, joined by ``/``, where there are several.
        unsafe_pickle: whether a file that can't be read otherwise may run its code, in a process of its own.

    Raises:
        CheckpointError: there is no usable checkpoint.
        UnsafeFileError: reading it would run code or take absurd amounts of memory.
        CorruptFileError: it is damaged.
        OptionError: there is nothing under ``weights``.
    """
    layout = locate(Path(path), unsafe_pickle=unsafe_pickle)
    if layout.format == "bioconvert":
        return _unnested(_read_ours(layout.path), weights)
    how = _How(weights, unsafe_pickle)
    if layout.index is not None:
        found = _read_shards(layout, layout.index, how)
    elif layout.format == "distributed":
        found = _read_by_code(layout.path, "distributed", how)
    else:
        found = replace(_read_file(layout.files[0], how), source=layout.path, format=layout.format)
    _unnested(found, weights)
    if found.passed_over and weights is None:
        _log.warning(
            "%s: took %r and passed over %s; --weights KEY takes another",
            *(found.source, "/".join(found.nesting), ", ".join(found.passed_over[:_SHOWN])),
        )
    if found.left_out:
        _log.warning("%s: left out what is no tensor: %s", found.source, ", ".join(found.left_out[:5]))
    return _with_ties(found if layout.format == "huggingface" else _without_prefix(found))


def _unnested(found: Checkpoint, weights: str | None) -> Checkpoint:
    """Refuse a request for a part of what has no parts."""
    if weights is not None and not found.nesting:
        raise OptionError(
            f"{found.source}: is no training dict with weights under {weights[:200]!r}; leave out --weights"
        )
    return found


def _read_ours(folder: Path) -> Checkpoint:
    manifest = read_manifest(folder / MANIFEST)
    read = read_recorded(folder, manifest.tensors, verify=False)
    read.update({name: read[leader] for name, leader in leaders(manifest.ties).items()})
    tensors = {manifest.bare(name): tensor for name, tensor in read.items()}
    ties = tuple(tuple(manifest.bare(name) for name in group) for group in manifest.ties)
    return Checkpoint(tensors, folder, "bioconvert", prefix=manifest.prefix, ties=ties, manifest=manifest)


def _read_shards(layout: Layout, index: ShardIndex, how: _How) -> Checkpoint:
    tensors: dict[str, torch.Tensor] = {}
    left_out: tuple[str, ...] = ()
    for file in layout.files:
        part = _read_file(file, how)
        check_names(index, file, set(part.tensors))
        tensors.update(part.tensors)
        left_out += part.left_out
    return Checkpoint(tensors, layout.path, layout.format, left_out=left_out)


def _read_file(file: Path, how: _How) -> Checkpoint:
    kind = sniff(file)
    if kind == "safetensors index":
        raise CorruptFileError(f"{file}: must hold tensors, but is an index")
    if kind == "safetensors":
        header, tensors = read_safetensors(file)
        return Checkpoint(tensors, file, kind, metadata=header.metadata)
    try:
        found = find_state(load_pickled(file, kind), file, how.weights)
    except NeedsCodeError:
        if not how.unsafe_pickle:
            raise
        return _read_by_code(file, kind, how)
    check_tensors(found.tensors, file, file.stat().st_size)
    return Checkpoint(
        found.tensors,
        file,
        kind,
        found.nesting,
        found.passed_over,
        left_out=found.left_out,
        said=found.said,
        beside=found.beside,
    )


def _read_by_code(path: Path, form: Format, how: _How) -> Checkpoint:
    """Let a file or folder run its code, in a process of its own."""
    handed = read_by_code(path, how.weights)
    return Checkpoint(
        handed.tensors,
        path,
        form,
        handed.nesting,
        handed.passed_over,
        left_out=handed.left_out,
        architecture=handed.architecture,
        beside=handed.beside,
        by_code=True,
    )


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

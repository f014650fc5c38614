"""What a user points at: a checkpoint, an architecture, a converted folder — and the model that is in it."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bioconvert.cli.streams import step
from bioconvert.core.errors import OptionError

if TYPE_CHECKING:
    from torch import nn

    from bioconvert.checkpoint import Architecture, Checkpoint
    from bioconvert.checkpoint.models.paging import Pager
    from bioconvert.ruleset import RuleSet


@dataclass(frozen=True, slots=True)
class Reading:
    """How a checkpoint is to be read.

    Args:
        weights: which of its state dicts is meant, as keys joined by ``/``; ``None`` for the usual one.
        unsafe_pickle: whether it may run code where it can't be read otherwise.
    """

    weights: str | None = None
    unsafe_pickle: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model comes from.

    Args:
        checkpoint: file or folder with its tensors; ``None`` for an architecture alone.
        arch: where its code is, as ``torchvision:resnet18``; ``None`` where the checkpoint says so itself.
        arch_args: keyword arguments of the architecture.
        allow_missing: globs of parameters that the checkpoint may lack.
        reading: how the checkpoint is to be read.
    """

    checkpoint: Path | None
    arch: str | None
    arch_args: Mapping[str, object]
    allow_missing: tuple[str, ...] = ()
    reading: Reading = Reading()


def source_of(
    checkpoint: Path | None,
    arch: str | None,
    arch_args: str | None,
    allow_missing: Iterable[str] | None,
    reading: Reading = Reading(),
) -> Source:
    """Check what can be checked of a source before anything is read.

    Raises:
        OptionError: neither a checkpoint nor an architecture, or arguments that are no JSON object.
        FileNotFoundError: there is no such checkpoint.
    """
    if checkpoint is None and arch is None:
        raise OptionError("give a checkpoint, or --arch for a model without one")
    if checkpoint is not None:
        require(checkpoint)
    return Source(checkpoint, arch, _parse_args(arch_args), tuple(allow_missing or ()), reading)


def require(path: Path) -> None:
    """Check that there is something to read at ``path``.

    Raises:
        FileNotFoundError: there is nothing.
        PermissionError: it may not be read.
    """
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    if not os.access(path, os.R_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


@dataclass(frozen=True, slots=True)
class Built:
    """A model with its tensors, and what a manifest should say of where it came from.

    Args:
        model: the model.
        origin: the checkpoint that was read, or its path; ``None`` for an architecture alone.
        architecture: how the model was built; ``None`` where a folder of ours doesn't say.
        pager: brings in the values of its tensors when they are used; ``None`` where they are in memory.
    """

    model: nn.Module
    origin: Checkpoint | Path | None
    architecture: Architecture | None
    pager: Pager | None = None


def build(source: Source, pager: Pager | None = None) -> Built:
    """Build the model and load its tensors: the bytes are judged first, then the architecture.

    Args:
        source: where the model comes from.
        pager: what is to bring in values when they are used, instead of loading them now.

    Raises:
        CheckpointError: the checkpoint is unsafe, corrupt, or doesn't fit the architecture.
    """
    find_modules_here()
    if source.checkpoint is None:
        return _build_bare(source)
    if source.arch is None and source.reading.weights is None and is_ours(source.checkpoint):
        return _rebuild(source.checkpoint)
    if pager is not None and source.reading.weights is None:
        return _build_without_values(source, source.checkpoint, pager)
    with step(f"reading {source.checkpoint}"):
        # Importing torch takes seconds too, which the step is there to explain.
        from bioconvert.checkpoint import load_into, read_checkpoint

        how = source.reading
        checkpoint = read_checkpoint(source.checkpoint, weights=how.weights, unsafe_pickle=how.unsafe_pickle)
    architecture = _architecture(source, checkpoint)
    with step(_building(architecture)):
        model = architecture.build()
        load_into(model, checkpoint, source.allow_missing)
    return Built(model, checkpoint, architecture)


def _architecture(source: Source, checkpoint: Checkpoint) -> Architecture:
    from bioconvert.checkpoint import Architecture, choose_architecture
    from bioconvert.checkpoint.tensors.torch_dtypes import CODES

    if source.arch is None and checkpoint.architecture is not None:
        found = Architecture.from_dict(checkpoint.architecture)
        return Architecture(found.kind, found.name, {**found.args, **source.arch_args})
    described = {name: (CODES[t.dtype], tuple(t.shape)) for name, t in checkpoint.tensors.items()}
    return choose_architecture(
        checkpoint.source, source.arch, source.arch_args, tensors=described, ties=checkpoint.ties
    )


def check_rules(built: Built, ruleset: RuleSet, source: Source, *, runs: bool) -> None:
    """Check that rules need no more than is known of a model.

    Raises:
        ArchitectureError: only its tensors are known, and the rules need modules, or it is to be run.
    """
    from bioconvert.checkpoint import Checkpoint
    from bioconvert.checkpoint.architectures.tensor_rules import check_tensor_rules

    said = built.origin.said if isinstance(built.origin, Checkpoint) else ""
    check_tensor_rules(ruleset, built.architecture, str(source.checkpoint), runs=runs, said=said)


def _build_without_values(source: Source, path: Path, pager: Pager) -> Built:
    with step(f"reading the headers of {path}"):
        from bioconvert.checkpoint import choose_architecture
        from bioconvert.checkpoint.formats.stored import find_tensors
        from bioconvert.checkpoint.models.streaming import stream_model

        contents = find_tensors(path)
        described = {name: (each.dtype, each.shape) for name, each in contents.tensors.items()}
        architecture = choose_architecture(path, source.arch, source.arch_args, tensors=described)
    with step(_building(architecture)):
        return Built(stream_model(contents, architecture, pager), path, architecture, pager)


def _building(architecture: Architecture) -> str:
    return "taking its tensors alone" if architecture.kind == "tensors" else f"building {architecture}"


def _build_bare(source: Source) -> Built:
    with step(f"building {source.arch}"):
        from bioconvert.checkpoint import parse_arch

        architecture = parse_arch(source.arch or "", source.arch_args)
        return Built(architecture.build(), None, architecture)


def _rebuild(folder: Path) -> Built:
    model = load_ours(folder)
    from bioconvert.checkpoint import architecture_in

    return Built(model, folder, architecture_in(folder))


def load_ours(folder: Path) -> nn.Module:
    """Load a converted folder."""
    find_modules_here()
    with step(f"loading {folder}"):
        from bioconvert import api

        return api.load(folder)


def is_ours(path: Path) -> bool:
    """Say whether bioconvert wrote this folder."""
    from bioconvert.checkpoint.formats.layout import MANIFEST

    return (path / MANIFEST).is_file()


def find_modules_here() -> None:
    """Let ``--arch package.module:callable`` find code in the working directory, as ``python -m`` does.

    Last, so that a file there can't stand in for an installed package.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)


def _parse_args(text: str | None) -> Mapping[str, object]:
    try:
        found = {} if text is None else json.loads(text)
    except ValueError as error:
        raise OptionError(f'--arch-args must be JSON, as {{"num_classes": 10}}: {error}') from error
    if not isinstance(found, dict):
        raise OptionError(f'--arch-args must be a JSON object, as {{"num_classes": 10}}; given: {text}')
    return found

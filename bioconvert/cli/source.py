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


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model comes from.

    Args:
        checkpoint: file or folder with its tensors; ``None`` for an architecture alone.
        arch: where its code is, as ``torchvision:resnet18``; ``None`` where the checkpoint says so itself.
        arch_args: keyword arguments of the architecture.
        allow_missing: globs of parameters that the checkpoint may lack.
    """

    checkpoint: Path | None
    arch: str | None
    arch_args: Mapping[str, object]
    allow_missing: tuple[str, ...] = ()


def source(
    checkpoint: Path | None, arch: str | None, arch_args: str | None, allow_missing: Iterable[str] | None
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
    return Source(checkpoint, arch, _parse_args(arch_args), tuple(allow_missing or ()))


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


def build(origin: Source) -> nn.Module:
    """Build the model and load its tensors: the bytes are judged first, then the architecture.

    Raises:
        CheckpointError: the checkpoint is unsafe, corrupt, or doesn't fit the architecture.
    """
    _find_modules_here()
    if origin.checkpoint is None:
        return _build_bare(origin)
    if origin.arch is None and is_ours(origin.checkpoint):
        return load_ours(origin.checkpoint)
    with step(f"reading {origin.checkpoint}"):
        # Importing torch takes seconds too, which the step is there to explain.
        from bioconvert.checkpoint import choose_architecture, load_into, read_checkpoint

        checkpoint = read_checkpoint(origin.checkpoint)
    architecture = choose_architecture(origin.checkpoint, origin.arch, origin.arch_args)
    with step(f"building {architecture}"):
        model = architecture.build()
        load_into(model, checkpoint, origin.allow_missing)
    return model


def load_ours(folder: Path) -> nn.Module:
    """Load a converted folder."""
    _find_modules_here()
    with step(f"loading {folder}"):
        from bioconvert import api

        return api.load(folder)


def is_ours(path: Path) -> bool:
    """Say whether bioconvert wrote this folder."""
    from bioconvert.checkpoint.layout import MANIFEST

    return (path / MANIFEST).is_file()


def _build_bare(origin: Source) -> nn.Module:
    with step(f"building {origin.arch}"):
        from bioconvert.checkpoint import parse_arch

        return parse_arch(origin.arch or "", origin.arch_args).build()


def _find_modules_here() -> None:
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

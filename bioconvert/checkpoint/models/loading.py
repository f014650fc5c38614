"""An output folder → the model that was saved."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from bioconvert.checkpoint.architectures.architecture import FORMS, Architecture
from bioconvert.checkpoint.folders.manifest import Manifest, read_manifest
from bioconvert.checkpoint.folders.recorded import read_recorded
from bioconvert.checkpoint.formats.layout import MANIFEST
from bioconvert.checkpoint.models.assigning import assign
from bioconvert.checkpoint.tensors.module_state import restore_frozen, restore_modes, restore_ties
from bioconvert.core.errors import ArchitectureError, BioconvertError, CheckpointError, CorruptFileError
from bioconvert.surgery.records import replay, restore_originals


def load_model(
    path: str | os.PathLike[str], *, factory: Callable[[], nn.Module] | None = None, verify: bool = True
) -> nn.Module:
    """Rebuild the model that :func:`save_model` wrote to a folder.

    The base model is built, the conversion is done again on it, and every tensor is loaded, with its number
    format, ties, train flags and frozen parameters. Random numbers drawn while building don't change the
    caller's stream.

    Args:
        path: the folder.
        factory: builds the base model; without it, the folder must name an architecture.
        verify: whether the tensors' hashes are checked.

    Raises:
        CheckpointError: the path is no folder of ours.
        CorruptFileError: a file is damaged or was changed; file and tensor are named.
        ArchitectureError: the base model is unknown, can't be built, or doesn't fit the tensors.
        ConversionError: the conversion doesn't fit the base model.
    """
    folder = Path(path)
    if not (folder / MANIFEST).exists():
        raise CheckpointError(f"{folder}: must be a folder that bioconvert wrote, with a {MANIFEST} in it")
    manifest = read_manifest(folder / MANIFEST)
    model = _base(folder, manifest, factory)
    with _damage_named(folder):
        if manifest.conversion is not None:
            replay(model, manifest.conversion)
    restore_ties(model, tuple(tuple(manifest.bare(name) for name in group) for group in manifest.ties))
    read = read_recorded(folder, manifest.tensors, verify=verify)
    tensors = {manifest.bare(name): tensor for name, tensor in read.items()}
    assign(model, tensors, others=manifest.extra_state, where=str(folder))
    originals = read_recorded(folder, manifest.originals, verify=verify)
    with _damage_named(folder):
        restore_originals(model, originals)
    restore_frozen(model, manifest.frozen)
    restore_modes(model, manifest.modes)
    return model


@contextmanager
def _damage_named(folder: Path) -> Iterator[None]:
    """Turn what a malformed record of a conversion leads to into an error that names the manifest."""
    try:
        yield
    except BioconvertError:
        raise
    except (
        ArithmeticError,
        AttributeError,
        ImportError,
        LookupError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        said = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        raise CorruptFileError(f"{folder / MANIFEST}: the conversion can't be repeated ({said})") from error


def _base(folder: Path, manifest: Manifest, factory: Callable[[], nn.Module] | None) -> nn.Module:
    if factory is None and manifest.architecture is None:
        raise ArchitectureError(
            f"{folder}: doesn't say how its base model is built. Pass factory=, a function that returns the "
            f"unconverted model; or save again with arch= ({FORMS})"
        )
    with torch.random.fork_rng(devices=[]):
        if factory is None:
            return Architecture.from_dict(manifest.architecture or {}).build(trusted=False, folder=folder)
        model = factory()
    if not isinstance(model, nn.Module):
        raise ArchitectureError(f"factory must return an nn.Module, but gave a {type(model).__name__}")
    return model

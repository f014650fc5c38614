"""From a checkpoint with layers of dyna to a model of ours, with or without the model's code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bioconvert.cli.imported import Converted, with_prefix
from bioconvert.cli.source import Reading, find_modules_here
from bioconvert.cli.streams import step

if TYPE_CHECKING:
    from bioconvert.checkpoint import Architecture, Checkpoint
    from bioconvert.compat.dyna import Imported, Layer

LAYERS_ONLY = "bioconvert.compat.dyna:LayersOnly"


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for.

    Args:
        checkpoint: file or folder.
        arch: where the model's code is; ``None`` for its layers alone.
        arch_args: keyword arguments of the architecture.
        options: arguments of our layers, by glob.
        reading: how the checkpoint is to be read.
    """

    checkpoint: Path
    arch: str | None
    arch_args: Mapping[str, object]
    options: Mapping[str, Any] | None
    reading: Reading


@dataclass(frozen=True, slots=True)
class Outcome:
    """A model of our layers, and in what these differ from dyna's.

    Args:
        converted: the model and its origin.
        differences: what is computed otherwise.
    """

    converted: Converted[Layer]
    differences: tuple[str, ...]


def convert_checkpoint(asked: Request) -> Outcome:
    """Read a checkpoint and load it into our layers: the bytes are judged first, then the architecture.

    Raises:
        CheckpointError: the checkpoint is unsafe or corrupt.
        ArchitectureError: it has no layer of dyna, tensors are missing or contradict each other, something
            that they don't tell wasn't said, or they don't fit the architecture.
        OptionError: an option can't be used.
    """
    find_modules_here()
    with step(f"reading {asked.checkpoint}"):
        # Importing torch takes seconds too, which the step is there to explain.
        from bioconvert.checkpoint import parse_arch, read_checkpoint

        how = asked.reading
        checkpoint = read_checkpoint(asked.checkpoint, weights=how.weights, unsafe_pickle=how.unsafe_pickle)
    if asked.arch is None:
        return _without_code(asked, checkpoint)
    return _of_ours(checkpoint, parse_arch(asked.arch, asked.arch_args))


def _without_code(asked: Request, checkpoint: Checkpoint) -> Outcome:
    from bioconvert.checkpoint import parse_arch
    from bioconvert.checkpoint.models.assigning import assign
    from bioconvert.compat.dyna import read

    imported = read(checkpoint.tensors, options=asked.options)
    arch, arguments = _architecture(imported)
    model = parse_arch(arch, arguments).build()
    assign(model, imported.state, where=str(checkpoint.source))
    converted = Converted(
        model, checkpoint, arch, arguments, imported.layers, imported.others, whole=arch != LAYERS_ONLY
    )
    return Outcome(converted, imported.differences)


def _architecture(imported: Imported) -> tuple[str, Mapping[str, Any]]:
    """Say what rebuilds the layers: a single one without a path is the whole model itself."""
    from bioconvert.compat.dyna.layers_only import arguments_for

    layer = imported.layers[0]
    if layer.path == "" and len(imported.layers) == 1 and not imported.others:
        return f"bioconvert.layers:{layer.becomes}", layer.arguments
    return LAYERS_ONLY, arguments_for(imported)


def _of_ours(checkpoint: Checkpoint, architecture: Architecture) -> Outcome:
    from bioconvert.checkpoint import load_into
    from bioconvert.compat.dyna import describe, prepare
    from bioconvert.compat.dyna.differences import differences
    from bioconvert.compat.dyna.models import our_layers

    with step(f"building {architecture}"):
        model = architecture.build()
    named = with_prefix(checkpoint, model)
    layers = describe(named, model)
    load_into(model, replace(checkpoint, tensors=prepare(named, model), prefix=""))
    inside = tuple(f"{path}." if path else "" for path, _ in our_layers(model))
    others = tuple(name for name in model.state_dict() if not name.startswith(inside))
    converted = Converted(model, checkpoint, str(architecture), architecture.args, layers, others)
    return Outcome(converted, differences(layers, named))

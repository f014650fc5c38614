"""From a checkpoint of nmn to a model of our layers, with or without the model's code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bioconvert.cli.imported import Converted, with_prefix
from bioconvert.cli.source import Reading, find_modules_here
from bioconvert.cli.streams import step
from bioconvert.core.errors import OptionError

if TYPE_CHECKING:
    from torch import nn

    from bioconvert.checkpoint import Architecture, Checkpoint
    from bioconvert.compat.nmn import Generation, Layer

LAYERS_ONLY = "bioconvert.compat.nmn:LayersOnly"


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for.

    Args:
        checkpoint: file or folder.
        generation: of nmn; ``None`` where the tensors are to tell it.
        arch: where the model's code is; ``None`` for its layers alone.
        arch_args: keyword arguments of the architecture.
        options: of nmn's layers, by glob.
        reading: how the checkpoint is to be read.
    """

    checkpoint: Path
    generation: Generation | None
    arch: str | None
    arch_args: Mapping[str, object]
    options: Mapping[str, Any] | None
    reading: Reading


def convert_checkpoint(asked: Request) -> Converted[Layer]:
    """Read a checkpoint and load it into our layers: the bytes are judged first, then the architecture.

    Raises:
        CheckpointError: the checkpoint is unsafe or corrupt.
        ArchitectureError: it is none of nmn, or doesn't fit the architecture.
        OptionError: something that it doesn't tell wasn't said.
    """
    find_modules_here()
    with step(f"reading {asked.checkpoint}"):
        # Importing torch takes seconds too, which the step is there to explain.
        from bioconvert.checkpoint import parse_arch, read_checkpoint

        how = asked.reading
        checkpoint = read_checkpoint(asked.checkpoint, weights=how.weights, unsafe_pickle=how.unsafe_pickle)
    if asked.arch is None:
        return _layers_only(asked, checkpoint)
    architecture = parse_arch(asked.arch, asked.arch_args)
    with step(f"building {architecture}"):
        model = architecture.build()
    from bioconvert.compat.nmn import holds_nmn

    return (_of_nmn if holds_nmn(model) else _of_ours)(asked, checkpoint, architecture, model)


def _layers_only(asked: Request, checkpoint: Checkpoint) -> Converted[Layer]:
    from bioconvert.checkpoint.models.assigning import assign
    from bioconvert.compat.nmn import LayersOnly, read
    from bioconvert.compat.nmn.layers_only import arguments_for

    imported = read(checkpoint.tensors, generation=asked.generation, options=asked.options)
    arguments = arguments_for(imported)
    model = LayersOnly(**arguments)
    assign(model, imported.state, where=str(checkpoint.source))
    return Converted(model, checkpoint, LAYERS_ONLY, arguments, imported.layers, imported.others, whole=False)


def _of_nmn(
    asked: Request, checkpoint: Checkpoint, architecture: Architecture, model: nn.Module
) -> Converted[Layer]:
    """Load into a model that is built from nmn's own layers, which say themselves what they are."""
    from bioconvert.checkpoint import load_into
    from bioconvert.compat.nmn import describe_module, from_module

    layers = describe_module(model)
    found = {layer.generation for layer in layers}
    if asked.generation is not None and found != {asked.generation}:
        raise OptionError(
            f"--generation {asked.generation} must be that of {architecture}, whose layers are of the "
            f"installed nmn: {', '.join(sorted(found))}"
        )
    load_into(model, checkpoint)
    from_module(model)
    return Converted(model, checkpoint, None, {}, layers, _others(model))


def _of_ours(
    asked: Request, checkpoint: Checkpoint, architecture: Architecture, model: nn.Module
) -> Converted[Layer]:
    from bioconvert.checkpoint import load_into
    from bioconvert.compat.nmn import describe_ours, rename

    named = replace(checkpoint, tensors=with_prefix(checkpoint, model), prefix="")
    tensors = rename(named.tensors, model, generation=asked.generation)
    layers = describe_ours(named.tensors, model, generation=asked.generation)
    load_into(model, replace(named, tensors=tensors))
    return Converted(model, checkpoint, str(architecture), architecture.args, layers, _others(model))


def _others(model: nn.Module) -> tuple[str, ...]:
    from bioconvert.compat.nmn.renaming import our_layers

    inside = tuple(f"{path}." if path else "" for path, _ in our_layers(model))
    return tuple(name for name in model.state_dict() if not name.startswith(inside))

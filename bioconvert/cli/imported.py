"""What all ``bioconvert import`` commands share: their options, and the folder that they write."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from bioconvert.cli.source import require
from bioconvert.cli.streams import step
from bioconvert.core.errors import OptionError
from bioconvert.report.text import plural

if TYPE_CHECKING:
    from torch import nn

    from bioconvert.checkpoint import Checkpoint

LayerT = TypeVar("LayerT")


@dataclass(frozen=True, slots=True)
class Converted(Generic[LayerT]):
    """A model of our layers with a checkpoint's values.

    Args:
        model: the model.
        origin: the checkpoint.
        arch: what rebuilds the model; ``None`` where only code with the other system does.
        arch_args: its arguments.
        layers: what the other system's layers became.
        others: names of the tensors that belong to none of them.
        whole: whether the model has its own forward.
    """

    model: nn.Module
    origin: Checkpoint
    arch: str | None
    arch_args: Mapping[str, object]
    layers: tuple[LayerT, ...]
    others: tuple[str, ...]
    whole: bool = True


def read_options(options: str | None, arch: str | None) -> Mapping[str, Any] | None:
    """Read ``--options``: JSON, or the name of a file with JSON in it.

    Raises:
        OptionError: it is no JSON object, or ``--arch`` says everything already.
        FileNotFoundError: there is no such file.
    """
    if options is None:
        return None
    text, where = options, "--options"
    if not options.lstrip().startswith("{"):
        require(Path(options))
        text, where = Path(options).read_text(encoding="utf-8"), options
    try:
        found = json.loads(text)
    except ValueError as error:
        raise OptionError(f'{where} must be JSON, as {{"**": {{"epsilon": 1e-5}}}}: {error}') from error
    if not isinstance(found, dict):
        raise OptionError(f"{where} must be a JSON object: globs over names → options")
    if arch is not None:
        raise OptionError("--options say what --arch says already; give one of the two")
    return found


def with_prefix(checkpoint: Checkpoint, model: nn.Module) -> Mapping[str, Any]:
    """Put back as much of a prefix that was taken off every name as belongs to the model's own modules."""
    paths = {name.rpartition(".")[0] for name in model.state_dict()}
    parts = checkpoint.prefix.split(".")[:-1]
    ends = ["".join(f"{part}." for part in parts[start:]) for start in range(len(parts), -1, -1)]

    def fitting(end: str) -> int:
        return sum((end + name).rpartition(".")[0] in paths for name in checkpoint.tensors)

    best = max(ends, key=fitting)
    return {best + name: tensor for name, tensor in checkpoint.tensors.items()}


def save(converted: Converted[Any], out: Path, *, overwrite: bool) -> None:
    """Write the model as a folder of ours."""
    from bioconvert.checkpoint import save_model

    with step(f"writing {out}"):
        save_model(
            converted.model,
            out,
            arch=converted.arch,
            arch_args=converted.arch_args or None,
            overwrite=overwrite,
            source=converted.origin,
        )


def closing(converted: Converted[Any], out: Path) -> Iterator[str]:
    """Say what was written and how it is used."""
    if converted.others:
        yield f"{plural(len(converted.others), 'tensor')} of other modules, as they were"
    yield f"written to {out}"
    load = f"import bioconvert as bc; model = bc.load({json.dumps(str(out))}"
    if converted.arch is not None:
        yield f"use it with: {load})"
    if not converted.whole:
        yield "which has the layers but no forward; for that:"
    if converted.arch is None or not converted.whole:
        yield f"{'use it with: ' if converted.arch is None else ''}{load}, factory=...)"
        yield "where factory() builds the model from bioconvert's layers"

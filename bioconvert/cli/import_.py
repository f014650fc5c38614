"""``bioconvert import``: the checkpoints of other systems, as folders of ours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bioconvert.cli.command import Answer
from bioconvert.cli.imported import Converted, closing, read_options, save
from bioconvert.cli.nmn_checkpoint import Request, convert_checkpoint
from bioconvert.cli.options import Arch, ArchArgs, Checkpoint, Out, Overwrite, UnsafePickle, Weights
from bioconvert.cli.source import Reading, source_of
from bioconvert.cli.target import check_target

if TYPE_CHECKING:
    from rich.console import RenderableType

    from bioconvert.cli.dyna_checkpoint import Outcome
    from bioconvert.compat.nmn import Layer as NmnLayer


def nmn(
    checkpoint: Checkpoint,
    out: Out,
    generation: Annotated[
        str | None,
        typer.Option("--generation", metavar="0.1|0.3", help="0.1 up to nmn 0.2.6, 0.3 from nmn 0.2.7 on."),
    ] = None,
    arch: Arch = None,
    arch_args: ArchArgs = None,
    options: Annotated[
        str | None,
        typer.Option(
            "--options",
            metavar="JSON|FILE",
            help='Without --arch, what tensors don\'t tell: {"conv1": {"stride": 2}, "**": "defaults"}.',
        ),
    ] = None,
    weights: Weights = None,
    unsafe_pickle: UnsafePickle = False,
    overwrite: Overwrite = False,
) -> Answer:
    """Read a checkpoint of nmn, the reference for Yat layers.

    With --arch, whose model is built from our layers (or from nmn's, where it is installed), the folder is
    that of the model. Without, it is that of the layers alone, and bc.load(DIR, factory=...) takes the model.
    Nothing is written unless everything went well.
    """
    from bioconvert.compat.nmn.generations import check_generation

    target = check_target(out, overwrite=overwrite)
    source = source_of(checkpoint, arch, arch_args, None)
    said = read_options(options, arch)
    reading = Reading(weights, unsafe_pickle)
    asked = Request(checkpoint, check_generation(generation), arch, source.arch_args, said, reading)
    converted = convert_checkpoint(asked)
    save(converted, target, overwrite=overwrite)
    data = {
        "out": str(out),
        "architecture": converted.arch if converted.whole else None,
        "layers": [asdict(layer) for layer in converted.layers],
        "others": list(converted.others),
    }
    return Answer(data, lambda: _nmn_text(converted, out))


def dyna(
    checkpoint: Checkpoint,
    out: Out,
    arch: Arch = None,
    arch_args: ArchArgs = None,
    options: Annotated[
        str | None,
        typer.Option(
            "--options",
            metavar="JSON|FILE",
            help='Without --arch, what tensors don\'t tell: {"conv*": {"in_channels": 16, "padding": 1}}.',
        ),
    ] = None,
    weights: Weights = None,
    unsafe_pickle: UnsafePickle = False,
    overwrite: Overwrite = False,
) -> Answer:
    """Read a checkpoint of dyna, whose weights depend on a context.

    With --arch, whose model is built from our layers, the folder is that of the model. Without, it is that of
    the layers alone, and bc.load(DIR, factory=...) takes the model. What tensors don't tell is said by
    --options, or assumed and named; so is what our layers compute otherwise. Nothing is written unless
    everything went well.
    """
    from bioconvert.cli import dyna_checkpoint

    target = check_target(out, overwrite=overwrite)
    source = source_of(checkpoint, arch, arch_args, None)
    said = read_options(options, arch)
    outcome = dyna_checkpoint.convert_checkpoint(
        dyna_checkpoint.Request(checkpoint, arch, source.arch_args, said, Reading(weights, unsafe_pickle))
    )
    converted = outcome.converted
    save(converted, target, overwrite=overwrite)
    data = {
        "out": str(out),
        "architecture": converted.arch if converted.whole else None,
        "layers": [asdict(layer) for layer in converted.layers],
        "others": list(converted.others),
        "differences": list(outcome.differences),
    }
    return Answer(data, lambda: _dyna_text(outcome, out))


def _nmn_text(converted: Converted[NmnLayer], out: Path) -> Iterator[str | RenderableType]:
    yield _nmn_table(converted.layers)
    yield ""
    yield from closing(converted, out)


def _dyna_text(outcome: Outcome, out: Path) -> Iterator[str | RenderableType]:
    from bioconvert.cli.dyna_tables import assumed_table, differences_table, layer_table

    layers = outcome.converted.layers
    yield layer_table(layers)
    if any(layer.assumed for layer in layers):
        yield "\nassumed, as tensors don't tell it (--options can):"
        yield assumed_table(layers)
    yield "\nwhat ours compute otherwise:"
    yield differences_table(outcome.differences)
    yield ""
    yield from closing(outcome.converted, out)


def _nmn_table(layers: tuple[NmnLayer, ...]) -> RenderableType:
    from rich.text import Text

    from bioconvert.report.fold import fold
    from bioconvert.report.tables import plain_table
    from bioconvert.report.text import one_line, short

    groups: dict[tuple[str, ...], list[str]] = {}
    for layer in layers:
        cells: tuple[str, ...] = (f"{layer.kind} → {layer.becomes}", layer.generation, _options(layer))
        groups.setdefault(cells, []).append(layer.path or "(the model itself)")
    table = plain_table()
    for title in ("layer", "kind", "generation", "options"):
        table.add_column(title, overflow="fold", no_wrap=title == "generation")
    for cells, paths in groups.items():
        for folded in fold(paths):
            table.add_row(short(folded.text), *(Text(one_line(cell)) for cell in cells))
    return table


def _options(layer: NmnLayer) -> str:
    """Name the options that differ from nmn's defaults, and ε."""
    from bioconvert.compat.nmn.kinds import DEFAULTS, KINDS

    usual = DEFAULTS[layer.generation][KINDS[layer.kind].family]
    shown = {
        name: value
        for name, value in layer.options.items()
        if name == "epsilon" or value != usual.get(name, value)
    }
    return ", ".join(name if value is True else f"{name} {value}" for name, value in shown.items())

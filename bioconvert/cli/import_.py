"""``bioconvert import``: the checkpoints of other systems, as folders of ours."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bioconvert.cli.command import Answer
from bioconvert.cli.nmn_checkpoint import Converted, Request, convert_checkpoint
from bioconvert.cli.options import Arch, ArchArgs, Overwrite
from bioconvert.cli.source import require, source_of
from bioconvert.cli.streams import step
from bioconvert.cli.target import check_target
from bioconvert.core.errors import OptionError
from bioconvert.report.text import plural

if TYPE_CHECKING:
    from rich.console import RenderableType

    from bioconvert.compat.nmn import Layer


def nmn(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="A file or folder.", readable=False)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to write, new or empty.")],
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
    overwrite: Overwrite = False,
) -> Answer:
    """Read a checkpoint of nmn, the reference implementation of the Yat layers.

    With --arch, whose model is built from our layers (or from nmn's, where it is installed), the folder is
    that of the model. Without, it is that of the layers alone, and bc.load(DIR, factory=...) takes the model.
    Nothing is written unless everything went well.
    """
    from bioconvert.compat.nmn.generations import check_generation

    target = check_target(out, overwrite=overwrite)
    source = source_of(checkpoint, arch, arch_args, None)
    said = _said(options)
    if arch is not None and said is not None:
        raise OptionError("--options say what --arch says already; give one of the two")
    asked = Request(checkpoint, check_generation(generation), arch, source.arch_args, said)
    converted = convert_checkpoint(asked)
    _save(converted, target, overwrite=overwrite)
    data = {
        "out": str(out),
        "architecture": converted.arch if converted.whole else None,
        "layers": [asdict(layer) for layer in converted.layers],
        "others": list(converted.others),
    }
    return Answer(data, lambda: _text(converted, out))


def _said(options: str | None) -> Mapping[str, Any] | None:
    """Read ``--options``: JSON, or the name of a file with JSON in it."""
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
    return found


def _save(converted: Converted, out: Path, *, overwrite: bool) -> None:
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


def _text(converted: Converted, out: Path) -> Iterator[str | RenderableType]:
    yield _table(converted.layers)
    yield ""
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


def _table(layers: tuple[Layer, ...]) -> RenderableType:
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


def _options(layer: Layer) -> str:
    """Name the options that differ from nmn's defaults, and ε."""
    from bioconvert.compat.nmn.kinds import DEFAULTS, KINDS

    usual = DEFAULTS[layer.generation][KINDS[layer.kind].family]
    shown = {
        name: value
        for name, value in layer.options.items()
        if name == "epsilon" or value != usual.get(name, value)
    }
    return ", ".join(name if value is True else f"{name} {value}" for name, value in shown.items())

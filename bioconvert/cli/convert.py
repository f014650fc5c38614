"""``bioconvert convert``: a checkpoint, converted, in a folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bioconvert.cli.command import Answer
from bioconvert.cli.inputs import samples
from bioconvert.cli.options import (
    AllowMissing,
    Arch,
    ArchArgs,
    Calibration,
    Every,
    Inputs,
    InputShape,
    Overwrite,
    Rules,
    Seed,
)
from bioconvert.cli.plan import Given, Prepared, plan_answer, prepare
from bioconvert.cli.source import Built, source_of
from bioconvert.cli.streams import step
from bioconvert.cli.target import check_target

if TYPE_CHECKING:
    from rich.console import RenderableType
    from torch import nn

    from bioconvert.api import Drift
    from bioconvert.report.summary import Line


def convert(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="A file or folder.", readable=False)
    ],
    rules: Rules,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Folder to write, new or empty.")
    ] = None,
    arch: Arch = None,
    arch_args: ArchArgs = None,
    inputs: Inputs = None,
    input_shape: InputShape = None,
    calibration: Calibration = None,
    allow_missing: AllowMissing = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and write nothing.")] = False,
    every: Every = False,
) -> Answer:
    """Convert a checkpoint by rules and write it to a folder.

    The folder holds the tensors (safetensors) and a manifest, from which bc.load(DIR) rebuilds the model.
    Nothing is written unless everything went well.
    """
    from bioconvert.ruleset import resolve_rules

    ruleset = resolve_rules(list(rules))
    target = None if dry_run else check_target(out, overwrite=overwrite)
    source = source_of(checkpoint, arch, arch_args, allow_missing)
    given = Given(samples(inputs, input_shape, seed=seed), samples(calibration, None, seed=seed))
    prepared = prepare(ruleset, source, given, seed=seed)
    if target is None:
        return plan_answer(prepared, every=every)
    return _convert(prepared, target, overwrite=overwrite)


def _convert(prepared: Prepared, out: Path, *, overwrite: bool) -> Answer:
    from bioconvert.report.summary import summary_lines

    model = prepared.built.model
    before = _classes(model)
    with step("converting"):
        report = prepared.plan.apply()
    lines = summary_lines(report, before, _classes(model))
    drift = _drift(prepared)
    _save(prepared.built, out, overwrite=overwrite)
    data = {
        **prepared.described,
        "out": str(out),
        "summary": [asdict(line) for line in lines],
        "report": report.to_dict(),
        "drift": None if drift is None else drift.to_dict(),
    }
    return Answer(data, lambda: _text(lines, report.warnings, drift, out))


def _drift(prepared: Prepared) -> Drift | None:
    from bioconvert import api

    if prepared.inputs is None:
        return None
    with step("measuring the drift"):
        return api.drift(prepared.built.model, prepared.inputs)


def _save(built: Built, out: Path, *, overwrite: bool) -> None:
    from bioconvert.checkpoint import save_model

    named = built.architecture
    if named is not None and named.kind == "transformers":
        # Such a model carries its configuration, which save_model finds; no text stands for it.
        named = None
    with step(f"writing {out}"):
        save_model(
            built.model,
            out,
            arch=None if named is None else str(named),
            arch_args=None if named is None else named.args,
            overwrite=overwrite,
            source=built.origin,
        )


def _classes(model: nn.Module) -> Mapping[str, str]:
    return {path: type(module).__name__ for path, module in model.named_modules(remove_duplicate=False)}


def _text(
    lines: tuple[Line, ...], warnings: tuple[str, ...], drift: Drift | None, out: Path
) -> Iterator[str | RenderableType]:
    from bioconvert.report.drift import drift_line
    from bioconvert.report.summary import summary_table

    yield summary_table(lines) if lines else "the rules change nothing in this model"
    yield from (f"warning: {warning}" for warning in warnings)
    yield ""
    if drift is not None:
        yield drift_line(drift.output)
    yield f"written to {out}"
    yield f"use it with: import bioconvert as bc; model = bc.load({json.dumps(str(out))})"

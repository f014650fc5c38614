"""``bioconvert convert``: a checkpoint, converted, in a folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bioconvert.cli.command import Answer
from bioconvert.cli.inputs import samples
from bioconvert.cli.job import Asked, job_of
from bioconvert.cli.options import (
    AllowMissing,
    Arch,
    ArchArgs,
    Calibration,
    Checkpoint,
    Every,
    Format,
    InPlace,
    Inputs,
    InputShape,
    OutIfAny,
    Overwrite,
    ReportFile,
    Resume,
    Rules,
    Seed,
    ShardSize,
    Stream,
    UnsafePickle,
    Weights,
)
from bioconvert.cli.plan import Given, Prepared, plan_answer, prepare
from bioconvert.cli.report import write_converted
from bioconvert.cli.report_file import check_report
from bioconvert.cli.source import Built, Reading, source_of
from bioconvert.cli.streams import step
from bioconvert.cli.target import Writing, parse_format, target_of
from bioconvert.core.sizes import parse_size

if TYPE_CHECKING:
    from rich.console import RenderableType
    from torch import nn

    from bioconvert.api import Drift, Report
    from bioconvert.checkpoint.output.journal import Job
    from bioconvert.report.summary import Line
    from bioconvert.surgery.costs import CostChange


def convert(
    checkpoint: Checkpoint,
    rules: Rules,
    out: OutIfAny = None,
    arch: Arch = None,
    arch_args: ArchArgs = None,
    inputs: Inputs = None,
    input_shape: InputShape = None,
    calibration: Calibration = None,
    allow_missing: AllowMissing = None,
    weights: Weights = None,
    unsafe_pickle: UnsafePickle = False,
    stream: Stream = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    in_place: InPlace = False,
    resume: Resume = False,
    shard_size: ShardSize = "5GB",
    weights_format: Format = "safetensors",
    report: ReportFile = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and write nothing.")] = False,
    every: Every = False,
) -> Answer:
    """Convert a checkpoint by rules and write it to a folder.

    The folder holds the tensors (safetensors) and a manifest, from which bc.load(DIR) rebuilds the model.
    Nothing is written unless everything went well.
    """
    asked = Asked.here("convert", locals())
    from bioconvert.checkpoint.output.output_folder import check_begun
    from bioconvert.ruleset import resolve_rules

    ruleset = resolve_rules(list(rules))
    writing = Writing(overwrite, in_place, resume, parse_size(shard_size), parse_format(weights_format))
    target = None if dry_run else target_of(out, checkpoint, writing)
    source = source_of(checkpoint, arch, arch_args, allow_missing, Reading(weights, unsafe_pickle))
    given = Given(samples(inputs, input_shape, seed=seed), samples(calibration, None, seed=seed))
    check_report(report, target, checkpoint)
    if target is None:
        with prepare(ruleset, source, given, seed=seed, stream=stream) as prepared:
            return plan_answer(prepared, every=every, report=report)
    job = job_of(asked, ruleset, (checkpoint, inputs, calibration), resume=resume)
    check_begun(target, job)
    with prepare(ruleset, source, given, seed=seed, stream=stream, out=target) as prepared:
        done = _convert(prepared, target, writing, job)
    if report is not None:
        write_converted(target, given.inputs, done.report, done.drift, report)
    return Answer(done.data, lambda: done.text(target))


@dataclass(frozen=True, slots=True)
class _Done:
    """What was done, and what came of it."""

    data: Mapping[str, object]
    lines: tuple[Line, ...]
    report: Report
    costs: CostChange
    drift: Drift | None
    non_finite: Mapping[str, int]

    def text(self, out: Path) -> Iterator[str | RenderableType]:
        """Say it."""
        from bioconvert.report.costs import costs_table
        from bioconvert.report.drift import drift_line
        from bioconvert.report.summary import summary_table
        from bioconvert.report.tables import told

        yield summary_table(self.lines) if self.lines else "the rules change nothing in this model"
        yield from (f"warning: {warning}" for warning in self.report.warnings)
        if self.non_finite:
            yield f"warning: not finite are {told(self.non_finite)}"
        yield ""
        yield from costs_table(self.costs)
        yield ""
        if self.drift is not None:
            yield drift_line(self.drift.output)
        yield f"written to {out}"
        yield f"use it with: import bioconvert as bc; model = bc.load({json.dumps(str(out))})"


def _convert(prepared: Prepared, out: Path, writing: Writing, job: Job) -> _Done:
    from bioconvert.checkpoint.folders.manifest import read_manifest
    from bioconvert.checkpoint.formats.layout import MANIFEST
    from bioconvert.report.summary import summary_lines
    from bioconvert.surgery.costs import CostChange, costs_of

    model = prepared.built.model
    before, costs_before = _classes(model), costs_of(model, prepared.inputs)
    with step("converting"):
        report = prepared.plan.apply()
    lines = summary_lines(report, before, _classes(model))
    costs = CostChange(costs_before, costs_of(model, prepared.inputs))
    drift = _drift(prepared)
    _save(prepared.built, out, writing, job)
    non_finite = read_manifest(out / MANIFEST).non_finite
    data = {
        **prepared.described,
        "out": str(out),
        "summary": [asdict(line) for line in lines],
        "report": report.to_dict(),
        **costs.to_dict(),
        "drift": None if drift is None else drift.to_dict(),
        "non_finite": non_finite,
    }
    return _Done(data, lines, report, costs, drift, non_finite)


def _drift(prepared: Prepared) -> Drift | None:
    from bioconvert import api

    if prepared.inputs is None:
        return None
    with step("measuring the drift"):
        return api.drift(prepared.built.model, prepared.inputs)


def _save(built: Built, out: Path, writing: Writing, job: Job) -> None:
    from bioconvert.checkpoint import save_model

    named = built.architecture
    if named is not None and named.kind in {"transformers", "tensors"}:
        # Such a model carries its description, which save_model finds; no text stands for it.
        named = None
    with step(f"writing {out}"):
        save_model(
            built.model,
            out,
            arch=None if named is None else str(named),
            arch_args=None if named is None else named.args,
            overwrite=writing.may_replace,
            source=built.origin,
            shard_size=writing.shard_size,
            pager=built.pager,
            job=job,
            weights_format=writing.weights_format,
        )


def _classes(model: nn.Module) -> Mapping[str, str]:
    from bioconvert.report.summary import PARAMETER

    parameters = {name: PARAMETER for name, _ in model.named_parameters(remove_duplicate=False)}
    modules = model.named_modules(remove_duplicate=False)
    return parameters | {path: type(module).__name__ for path, module in modules}

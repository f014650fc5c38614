"""``bioconvert plan``: what a conversion would do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bioconvert.cli.command import Answer
from bioconvert.cli.inputs import Arguments, Samples, samples
from bioconvert.cli.options import (
    AllowMissing,
    Arch,
    ArchArgs,
    Calibration,
    CheckpointIfAny,
    Every,
    Inputs,
    InputShape,
    ReportFile,
    Rules,
    Seed,
    Stream,
    UnsafePickle,
    Weights,
)
from bioconvert.cli.piecewise import paging
from bioconvert.cli.report_file import check_report
from bioconvert.cli.source import Built, Reading, Source, build, check_rules, source_of
from bioconvert.cli.streams import step

if TYPE_CHECKING:
    from bioconvert.api import Plan
    from bioconvert.ruleset import RuleSet


def plan(
    rules: Rules,
    checkpoint: CheckpointIfAny = None,
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
    report: ReportFile = None,
    every: Every = False,
) -> Answer:
    """Show what a conversion would change, and why not the rest."""
    from bioconvert.ruleset import resolve_rules

    check_report(report, checkpoint)
    ruleset = resolve_rules(list(rules))
    source = source_of(checkpoint, arch, arch_args, allow_missing, Reading(weights, unsafe_pickle))
    given = Given(samples(inputs, input_shape, seed=seed), samples(calibration, None, seed=seed))
    with prepare(ruleset, source, given, seed=seed, stream=stream) as prepared:
        return plan_answer(prepared, every=every, report=report)


@dataclass(frozen=True, slots=True)
class Given:
    """The sample data that a command was given.

    Args:
        inputs: an example of what the model takes, if there is one.
        calibration: samples to fit layers to, if there are any.
    """

    inputs: Samples | None
    calibration: Samples | None

    @property
    def any(self) -> bool:
        """Whether there is any of it."""
        return self.inputs is not None or self.calibration is not None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model with its plan: what both ``plan`` and ``convert`` begin with.

    Args:
        built: the model, not yet changed, and where it came from.
        plan: what would change.
        inputs: arguments to call the model with, if there are any.
        described: what was asked for, as values that JSON can hold.
    """

    built: Built
    plan: Plan
    inputs: Arguments | None
    described: Mapping[str, object]


@contextmanager
def prepare(
    ruleset: RuleSet,
    source: Source,
    given: Given,
    *,
    seed: int,
    stream: bool | None = None,
    out: Path | None = None,
) -> Iterator[Prepared]:
    """Build the model and plan the conversion; where it doesn't fit into memory, values are read meanwhile.

    Args:
        ruleset: the rules.
        source: where the model comes from.
        given: the sample data.
        seed: decides every random number.
        stream: whether values are read only when they are needed; ``None`` to decide by the free memory.
        out: the folder to be written, if one is.
    """
    with paging(source, stream, out, samples=given.any) as pager:
        built = build(source, pager)
        with nullcontext() if pager is None else pager.at_work():
            yield _prepared(ruleset, built, source, given, seed=seed)


def _prepared(ruleset: RuleSet, built: Built, source: Source, given: Given, *, seed: int) -> Prepared:
    from bioconvert import api

    check_rules(built, ruleset, source, runs=given.any)
    batches = None if given.calibration is None else given.calibration.batches(built.model)
    arguments = batches[0] if batches is not None else None
    if given.inputs is not None:
        arguments = given.inputs.arguments(built.model)
    with step("planning"):
        found = api.plan(built.model, ruleset, example_inputs=arguments, calibration=batches, seed=seed)
    described = {
        "checkpoint": None if source.checkpoint is None else str(source.checkpoint),
        "architecture": None if built.architecture is None else str(built.architecture),
        "rules": ruleset.name,
        "seed": seed,
    }
    return Prepared(built, found, arguments, described)


def plan_answer(prepared: Prepared, *, every: bool, report: Path | None = None) -> Answer:
    """Show a plan, and write a page about it where one is asked for."""
    from bioconvert.report.plan import plan_tables
    from bioconvert.surgery.costs import planned_costs

    with step("counting parameters and operations"):
        costs = planned_costs(prepared.plan)
    if report is not None:
        from bioconvert.cli.report import write_planned

        write_planned(prepared, costs, report)
    data = {**prepared.described, "plan": prepared.plan.to_dict(), **costs.to_dict()}
    return Answer(data, lambda: plan_tables(prepared.plan, costs=costs, every=every))

"""``bioconvert plan``: what a conversion would do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bioconvert.cli.command import Answer
from bioconvert.cli.inputs import Arguments, Samples, samples
from bioconvert.cli.options import (
    AllowMissing,
    Arch,
    ArchArgs,
    Calibration,
    Every,
    Inputs,
    InputShape,
    Rules,
    Seed,
)
from bioconvert.cli.source import Built, Source, build, source_of
from bioconvert.cli.streams import step

if TYPE_CHECKING:
    from bioconvert.api import Plan
    from bioconvert.ruleset import RuleSet


def plan(
    rules: Rules,
    checkpoint: Annotated[
        Path | None,
        typer.Argument(
            metavar="CHECKPOINT", help="A file or folder; without one, --arch alone.", readable=False
        ),
    ] = None,
    arch: Arch = None,
    arch_args: ArchArgs = None,
    inputs: Inputs = None,
    input_shape: InputShape = None,
    calibration: Calibration = None,
    allow_missing: AllowMissing = None,
    seed: Seed = 0,
    every: Every = False,
) -> Answer:
    """Show what a conversion would change, and why not the rest."""
    from bioconvert.ruleset import resolve_rules

    ruleset = resolve_rules(list(rules))
    source = source_of(checkpoint, arch, arch_args, allow_missing)
    given = Given(samples(inputs, input_shape, seed=seed), samples(calibration, None, seed=seed))
    return plan_answer(prepare(ruleset, source, given, seed=seed), every=every)


@dataclass(frozen=True, slots=True)
class Given:
    """The sample data that a command was given.

    Args:
        inputs: an example of what the model takes, if there is one.
        calibration: samples to fit layers to, if there are any.
    """

    inputs: Samples | None
    calibration: Samples | None


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


def prepare(ruleset: RuleSet, source: Source, given: Given, *, seed: int) -> Prepared:
    """Build the model and plan the conversion."""
    built = build(source)
    from bioconvert import api

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


def plan_answer(prepared: Prepared, *, every: bool) -> Answer:
    """Show a plan."""
    from bioconvert.report.plan import plan_tables

    data = {**prepared.described, "plan": prepared.plan.to_dict()}
    return Answer(data, lambda: plan_tables(prepared.plan, every=every))

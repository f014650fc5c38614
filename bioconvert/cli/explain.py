"""``bioconvert explain``: why rules do what they do to a module, and what a name of rule files means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from bioconvert.cli.command import Answer
from bioconvert.cli.completing import explained
from bioconvert.cli.inputs import samples
from bioconvert.cli.options import (
    AllowMissing,
    Arch,
    ArchArgs,
    CheckpointIfAny,
    Every,
    Inputs,
    InputShape,
    RulesIfAny,
    Seed,
    UnsafePickle,
    Weights,
)
from bioconvert.cli.source import Reading, build, check_rules, source_of
from bioconvert.cli.streams import step
from bioconvert.core.errors import OptionError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from bioconvert.cli.registered import Registered
    from bioconvert.ruleset import RuleSet
    from bioconvert.surgery.explain import Explanation


def explain(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="A module's dotted name or a glob over them; a layer, mechanism or node.",
            autocompletion=explained,
        ),
    ],
    checkpoint: CheckpointIfAny = None,
    rules: RulesIfAny = None,
    arch: Arch = None,
    arch_args: ArchArgs = None,
    inputs: Inputs = None,
    input_shape: InputShape = None,
    allow_missing: AllowMissing = None,
    weights: Weights = None,
    unsafe_pickle: UnsafePickle = False,
    seed: Seed = 0,
    every: Every = False,
) -> Answer:
    """Explain what rules do to a module, or a name that they use.

    With a model and --rules, NAME is a module: of every rule, which of its conditions the module meets, and
    what becomes of it. Without, or where something registered has the name and no checkpoint is given, NAME
    is a layer, mechanism or node: what it does, and its options.
    """
    from bioconvert.cli.registered import is_registered, registered

    if checkpoint is None and (arch is None or is_registered(name)):
        return _registered_answer(name, registered(name))
    if not rules:
        raise OptionError("say which rules to explain: --rules NAME|FILE")
    from bioconvert.ruleset import resolve_rules

    ruleset = resolve_rules(list(rules))
    source = source_of(checkpoint, arch, arch_args, allow_missing, Reading(weights, unsafe_pickle))
    sample = samples(inputs, input_shape, seed=seed)
    built = build(source)
    check_rules(built, ruleset, source, runs=sample is not None)
    arguments = None if sample is None else sample.arguments(built.model)
    with step("planning"):
        from bioconvert.surgery.explain import explain as explain_modules

        found = explain_modules(built.model, ruleset, name, example_inputs=arguments, seed=seed)
    return _module_answer(name, ruleset, found, every=every)


def _registered_answer(name: str, found: tuple[Registered, ...]) -> Answer:
    data = {"name": name, "rules": None, "modules": [], "registered": [asdict(each) for each in found]}
    return Answer(data, lambda: _registered_text(found))


def _registered_text(found: tuple[Registered, ...]) -> Iterator[str | RenderableType]:
    from bioconvert.report.registered import registered_parts

    for position, each in enumerate(found):
        if position:
            yield ""
        told = {"in a rule": each.use, "replaces": ", ".join(each.of)}
        rows = [
            (o.name, o.type, "required" if o.default is None else f"default: {o.default}", o.meaning)
            for o in each.options
        ]
        yield from registered_parts(f"{each.name}, a {each.kind}", each.summary, told, rows)


def _module_answer(name: str, ruleset: RuleSet, found: tuple[Explanation, ...], *, every: bool) -> Answer:
    from bioconvert.report.explain import explanation_parts

    data = {
        "name": name,
        "rules": ruleset.name,
        "modules": [asdict(each) for each in found],
        "registered": [],
    }
    return Answer(data, lambda: explanation_parts(found, every=every))

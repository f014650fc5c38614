"""Planning: rules × model → what would be done to every selected module. Nothing is changed yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bioconvert.core.change import SampleData
from bioconvert.core.errors import Problem, Refused, RuleError
from bioconvert.core.functions import functions_in
from bioconvert.core.results import Applied, Outcome, Outcomes, Skipped
from bioconvert.graph.session import sweep
from bioconvert.plasticity.mechanism import attached_parameters
from bioconvert.ruleset import Candidate, Rule, RuleSet, Selection, no_match, resolve_rules, select
from bioconvert.surgery.apply import Job, carry_out_job
from bioconvert.surgery.look import Look, unwrapped
from bioconvert.surgery.operations import Action, Operation, Wish, actions_of, make_operation, rank_of
from bioconvert.surgery.samples import Inputs, checked_inputs

Rules = str | Path | Mapping[str, Any] | RuleSet | Sequence[Any]


class Report(Outcomes):
    """What was done: like the plan, after proof of use."""


class Plan(Outcomes):
    """What a rule set would do to a model.

    Printing it shows every module that the rules select: how it would change, or why it is left alone.

    Args:
        job: what is to be done, and to what.
        outcomes: the same, in words.
        warnings: what to know before going on.
        untraceable: the containers whose graph was needed and could not be had, each with the reason; what a
            rule wanted of the layers in them was done without, or skipped.
    """

    def __init__(
        self,
        job: Job,
        outcomes: Iterable[Outcome],
        warnings: Iterable[str],
        untraceable: Mapping[str, str],
    ):
        super().__init__(outcomes, warnings)
        self._job = job
        self.untraceable = dict(untraceable)

    def __str__(self) -> str:
        if not self.untraceable:
            return super().__str__()
        (name, reason), *more = self.untraceable.items()
        others = f", and of {len(more)} more containers" if more else ""
        return f"{super().__str__()}\nno graph of {name or '(the model)'}: {reason}{others}"

    def to_dict(self) -> dict[str, object]:
        """Give the plan as values that JSON can hold."""
        return {**super().to_dict(), "untraceable": dict(self.untraceable)}

    def apply(self, *, strict: bool = False) -> Report:
        """Carry the plan out, all or nothing.

        With example inputs, a layer that turns out not to be used goes back to what it was and is reported as
        skipped.

        Args:
            strict: whether an unused layer is an error, and everything is rolled back.

        Raises:
            ConversionError: something failed; the model and the optimizer are exactly as they were.
        """
        refused = carry_out_job(self._job, strict=strict)
        outcomes = [
            Skipped(outcome.path, outcome.rule, outcome.action, refused[outcome.path, outcome.action])
            if isinstance(outcome, Applied) and (outcome.path, outcome.action) in refused
            else outcome
            for outcome in self.outcomes
        ]
        return Report(outcomes, self.warnings)


def make_plan(
    model: nn.Module,
    rules: Rules,
    *,
    example_inputs: Inputs | None = None,
    calibration: Iterable[Inputs] | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    seed: int = 0,
) -> Plan:
    """Say what a rule set would do to a model.

    Raises:
        RuleError: the rules are wrong, or one of them matches nothing.
        OptionError: the model is none, or can't run on ``example_inputs``.
        ConversionError: the model is wrapped in what can't take new parameters.
    """
    rule_set = resolve_rules(rules)
    look = Look(unwrapped(model), checked_inputs(example_inputs))
    batches = (
        calibration if calibration is not None else (() if example_inputs is None else (example_inputs,))
    )
    data: SampleData = "none" if example_inputs is None else "example"
    planner = _Planner(rule_set, look, "calibration" if calibration is not None else data, seed)
    if planner.needs_graphs:
        sweep(planner.select)
    else:
        planner.select()
    operations = tuple(sorted(planner.operations.values(), key=rank_of))
    job = Job(look, rule_set, operations, batches, optimizer, seed)
    return Plan(job, planner.outcomes(), _warnings(operations), look.graphs.untraceable)


_REPLACED = "scale and offset can't be handed on: the layer behind is replaced, too"
_STRAY = (
    "it is held in a plain list or dict, where torch neither trains nor saves it: put it into an "
    "nn.ModuleList or nn.ModuleDict"
)
Key = tuple[int, str, str]
"""A module, a parameter of it that a rule names, and a kind of action."""


@dataclass
class _Planner:
    rule_set: RuleSet
    look: Look
    data: SampleData
    seed: int
    operations: dict[Key, Operation] = field(default_factory=dict)
    refused: dict[Key, Skipped] = field(default_factory=dict)
    carriers: dict[tuple[str, int], str] = field(default_factory=dict)

    @property
    def needs_graphs(self) -> bool:
        """Whether containers will be traced: listening to them for one sweep is cheaper than for each."""
        matches = [rule.match for rule in self.rule_set.rules]
        asked = any(m.followed_by or m.parameter or functions_in(m.type) for m in matches)
        return asked or self.data != "none"

    def select(self) -> None:
        """Let every rule make its operations; the first that matches wins, for each kind of action."""
        problems: list[Problem] = []
        selections = []
        for rule in self.rule_set.rules:
            strays = [replace(stray, refusal=_STRAY) for stray in select(rule, self.look.strays)]
            found = [*select(rule, self.look.candidates), *strays]
            selections.append((rule, found))
            if not found and not rule.optional:
                problems.append(no_match(rule, self.look.candidates))
        if problems:
            raise RuleError(problems)
        kept = self._kept([s.candidate for rule, found in selections if rule.keep for s in found])
        for rule, found in selections:
            for selection in found:
                reason = kept.get(id(selection.candidate.module)) or selection.refusal
                for action in actions_of(rule):
                    self._consider(self._wish(selection, rule, action), reason)
        self._refuse_changing_receivers()

    def _refuse_changing_receivers(self) -> None:
        """Take back what would hand a scale on to a layer that is replaced itself."""
        replaced = {id(o.module) for o in self.operations.values() if o.action == "replace"}
        for key, operation in list(self.operations.items()):
            if operation.receiver is not None and id(operation.receiver) in replaced:
                del self.operations[key]
                self.refused[key] = Skipped(operation.path, operation.rule, operation.action, _REPLACED)

    def _wish(self, selection: Selection, rule: Rule, action: Action) -> Wish:
        path = ".".join(name for name in (selection.candidate.names[0], selection.parameter) if name)
        module = _module(selection.candidate)
        is_last = module is self.look.last
        return Wish(path, module, rule, action, selection.parameter, self.data, self.seed, is_last)

    def _kept(self, candidates: Iterable[Candidate]) -> dict[int, str]:
        """Give what no rule may touch: what a rule keeps, and everything inside it."""
        return {
            id(inside): f"a rule keeps {candidate.names[0]!r} as it is"
            for candidate in candidates
            for inside in _module(candidate).modules()
        }

    def _consider(self, wish: Wish, reason: str | None) -> None:
        key = (id(wish.module), wish.parameter, wish.kind)
        if key in self.operations:
            return
        try:
            if reason is not None:
                raise Refused(reason)
            operation = make_operation(wish, self.look)
            self._refuse_second_owner(operation)
            self.operations[key] = operation
        except Refused as refusal:
            self.refused.setdefault(key, Skipped(wish.path, wish.rule.name, wish.kind, refusal.reason))

    def _refuse_second_owner(self, operation: Operation) -> None:
        """Refuse to attach to weights that another module, which carries the mechanism, holds as well."""
        own = operation.module._parameters
        held = [
            (operation.action, id(own[name]))
            for name in attached_parameters(operation.change)
            if own.get(name) is not None
        ]
        owners = [self.carriers.get(each) for each in held]
        if owners and all(owners):
            raise Refused(f"its weight is that of {owners[0]!r}, which has {operation.name} already")
        for each in held:
            self.carriers.setdefault(each, operation.path)

    def outcomes(self) -> list[Outcome]:
        """Give what becomes of every selected module, in the order of the model."""
        found: dict[Key, Outcome] = {
            **self.refused,
            **{key: Applied(o.path, o.rule, o.action, o.how) for key, o in self.operations.items()},
        }
        position = {id(place.module): i for i, place in enumerate(self.look.tree.modules())}
        return [found[key] for key in sorted(found, key=lambda key: position.get(key[0], len(position)))]


def _module(candidate: Candidate) -> nn.Module:
    module = candidate.module
    if not isinstance(module, nn.Module):
        raise TypeError(f"a candidate must hold a module, not {type(module).__name__}")
    return module


def _warnings(operations: Iterable[Operation]) -> list[str]:
    counts = Counter(warning for operation in operations for warning in operation.change.warnings)
    return [f"{count} × {warning}" if count > 1 else warning for warning, count in counts.items()]

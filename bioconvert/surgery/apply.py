"""Carrying a plan out, all or nothing."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

from bioconvert.core.errors import BioconvertError, ConversionError, Refused
from bioconvert.core.random import Stream
from bioconvert.ruleset import RuleSet
from bioconvert.surgery.drops import DROPPED, arrange
from bioconvert.surgery.fit import Values, fitted_values
from bioconvert.surgery.look import Look
from bioconvert.surgery.operations import Operation
from bioconvert.surgery.optimizer import GroupsBefore, add_parameters
from bioconvert.surgery.prove import unproven
from bioconvert.surgery.samples import Inputs
from bioconvert.surgery.steps import carry_out, rewrite, steps_of, undo

_log = logging.getLogger("bioconvert")
RECORD = "_bioconvert_record"
"""Where the model keeps the rules it was converted by."""


@dataclass(frozen=True)
class Job:
    """What is to be done, and to what.

    Args:
        look: what is known of the model.
        rule_set: the rules, for the record.
        operations: what to do to which module.
        batches: sample data for layers that are fitted.
        optimizer: the optimizer to keep in step.
        seed: the seed of every random number.
    """

    look: Look
    rule_set: RuleSet
    operations: tuple[Operation, ...]
    batches: Iterable[Inputs] = ()
    optimizer: torch.optim.Optimizer | None = None
    seed: int = 0


Reasons = dict[tuple[str, str], str]


def carry_out_job(job: Job, *, strict: bool = False) -> Reasons:
    """Do what a plan says.

    Returns:
        Why operations were not done after all, by path and action.

    Raises:
        ConversionError: something failed, or with ``strict`` a layer isn't used; everything is as it was.
    """
    _refuse_stale(job)
    attempt = _Attempt(job)
    with _all_or_nothing(attempt):
        attempt.values, reasons = _values(job)
        attempt.convert([o for o in job.operations if (o.path, o.action) not in reasons])
        reasons |= attempt.withdraw_unused()
        if reasons and strict:
            listed = "; ".join(f"{path!r}: {reason}" for (path, _), reason in reasons.items())
            raise ConversionError(f"not every layer could be replaced: {listed}")
        attempt.finish()
    for (path, _), reason in reasons.items():
        _log.warning("%s is left as it was: %s", path, reason)
    return reasons


def _refuse_stale(job: Job) -> None:
    for operation in job.operations:
        if any(step.action == operation.action for step in steps_of(operation.module)):
            raise ConversionError(
                f"the model has changed since the plan was made ({operation.path!r} is converted): plan again"
            )


def _values(job: Job) -> tuple[dict[nn.Module, Values], Reasons]:
    fits = {o.module: o.fit for o in job.operations if o.fit is not None}
    values: dict[nn.Module, Values] = {}
    reasons: Reasons = {}
    paths = {o.module: (o.path, o.action) for o in job.operations if o.fit is not None}
    for module, found in fitted_values(job.look.model, fits, job.batches).items():
        if isinstance(found, Refused):
            reasons[paths[module]] = found.reason
        else:
            values[module] = found
    return values, reasons


@contextmanager
def _all_or_nothing(attempt: _Attempt) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        attempt.roll_back()
        if isinstance(error, (BioconvertError, KeyboardInterrupt, SystemExit)):
            raise
        raise ConversionError(f"the conversion failed and was undone: {error}") from error


@dataclass
class _Attempt:
    """The steps that were done so far, and how to undo them."""

    job: Job
    values: dict[nn.Module, Values] = field(default_factory=dict)
    operations: list[Operation] = field(default_factory=list)
    dropped: list[nn.Module] = field(default_factory=list)
    groups: GroupsBefore | None = None

    def convert(self, operations: Sequence[Operation]) -> None:
        with torch.no_grad():
            for operation in operations:
                self._convert_one(operation)
        self._drop()

    def _convert_one(self, operation: Operation) -> None:
        try:
            carry_out(
                operation.module,
                operation.change,
                rule=operation.rule,
                action=operation.action,
                name=operation.name,
                stream=Stream(self.job.seed, operation.path),
                values=self.values.get(operation.module) if operation.fit is not None else None,
                dropping=operation.dropping,
            )
        except Exception as error:
            raise ConversionError(f"{operation.path!r}: {operation.how} failed: {error}") from error
        self.operations.append(operation)

    def _drop(self) -> None:
        requests = [operation.drop for operation in self.operations if operation.drop is not None]
        arranged = arrange(requests, self.job.look.graphs)
        for module, rule in arranged.modules:
            carry_out(module, DROPPED, rule=rule, action="drop", name="Dropped")
            self.dropped.append(module)
        for container, edits, rule in arranged.rewrites:
            rewrite(container, edits, rule=rule)
            self.dropped.append(container)

    def _undo_all(self, undone: Collection[nn.Module]) -> None:
        """Undo the drops, and everything that was done to some modules."""
        while self.dropped:
            undo(self.dropped.pop())
        for operation in reversed(self.operations):
            if operation.module in undone:
                undo(operation.module)
        self.operations = [o for o in self.operations if o.module not in undone]

    def withdraw_unused(self) -> Reasons:
        """Take back the replacements that example inputs show to be unused."""
        inputs = self.job.look.example_inputs
        replaced = [o for o in self.operations if o.action == "replace"]
        if inputs is None or not replaced:
            return {}
        found = unproven(self.job.look.model, inputs, [o.module for o in replaced])
        if found:
            others = [o for o in self.operations if o.module in found and o.action != "replace"]
            self._undo_all(found.keys())
            self.convert(others)
        return {(o.path, o.action): found[o.module] for o in replaced if o.module in found}

    def finish(self) -> None:
        """Let the optimizer know of new parameters and put the rules on record."""
        if self.job.optimizer is not None:
            self.groups = GroupsBefore.of(self.job.optimizer)
            add_parameters(self.job.optimizer, _additions(self.operations))
        if self.operations:
            entry = {"rules": self.job.rule_set.to_dict(), "seed": self.job.seed}
            vars(self.job.look.model).setdefault(RECORD, []).append(entry)

    def roll_back(self) -> None:
        self._undo_all({operation.module for operation in self.operations})
        if self.groups is not None:
            self.groups.restore()


def _additions(operations: Sequence[Operation]) -> Iterator[tuple[nn.Module, str, nn.Parameter]]:
    for operation in operations:
        for name, recipe in operation.change.adds.items():
            if recipe.kind == "parameter":
                parameter = operation.module._parameters[name]
                if parameter is not None:
                    yield operation.module, f"{operation.path}.{name}", parameter

"""Carrying a plan out, all or nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

from bioconvert.core.errors import BioconvertError, ConversionError, Refused
from bioconvert.core.random import Stream
from bioconvert.layers.acting import every_layer_called
from bioconvert.ruleset import RuleSet
from bioconvert.surgery.fit import Values, fitted_values
from bioconvert.surgery.look import Look
from bioconvert.surgery.morphing import own_name
from bioconvert.surgery.operations import Operation
from bioconvert.surgery.optimizer import GroupsBefore, add_parameters
from bioconvert.surgery.prove import unproven
from bioconvert.surgery.samples import Inputs
from bioconvert.surgery.sequence import StepLog, drop_followers, own_layers, rewritten_containers
from bioconvert.surgery.steps import Step, steps_of
from bioconvert.surgery.verify import UNFAITHFUL, unfaithful

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
        reasons = _misunderstood(job)
        attempt.values, unfitted = _values(job)
        reasons |= unfitted
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
        done = ((step.action, step.parameter) for step in steps_of(operation.module))
        if (operation.action, operation.parameter) in done:
            raise ConversionError(
                f"the model has changed since the plan was made ({operation.path!r} is converted): plan again"
            )


def _misunderstood(job: Job) -> Reasons:
    """Give the operations that need a container's forward written anew which isn't what it was traced as."""
    inputs = job.look.example_inputs
    if inputs is None:
        return {}
    graphs = job.look.graphs
    found = unfaithful(job.look.model, inputs, rewritten_containers(job.operations, graphs))
    if not found:
        return {}
    return {
        (operation.path, operation.action): UNFAITHFUL.format(type(hit.container).__name__)
        for operation in job.operations
        if operation.drop is not None
        for hit in operation.drop.hits()
        if hit.container in found
    }


def _values(job: Job) -> tuple[dict[nn.Module, Values], Reasons]:
    fitted = {o.module: o for o in job.operations if o.fit is not None}
    fits = {module: o.fit for module, o in fitted.items() if o.fit is not None}
    values: dict[nn.Module, Values] = {}
    reasons: Reasons = {}
    with _layers_called(fitted.values()):
        results = fitted_values(job.look.model, fits, job.batches)
    for module, found in results.items():
        operation = fitted[module]
        if isinstance(found, Refused):
            reasons[operation.path, operation.action] = found.reason
        else:
            own = operation.morph.own if operation.morph is not None else ()
            values[module] = {own_name(name, own): value for name, value in found.items()}
    return values, reasons


@contextmanager
def _layers_called(operations: Iterable[Operation]) -> Iterator[None]:
    """Let containers call the layers whose weights they read, for a while."""
    log = StepLog()
    try:
        own_layers(operations, log)
        with every_layer_called():
            yield
    finally:
        log.undo_all()


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
    log: StepLog = field(default_factory=StepLog)
    groups: GroupsBefore | None = None

    def convert(self, operations: Sequence[Operation]) -> None:
        with torch.no_grad():
            for operation in operations:
                self._convert_one(operation)
        drop_followers(self.operations, self.job.look.graphs, self.log)
        own_layers(self.operations, self.log)

    def _convert_one(self, operation: Operation) -> None:
        stream = Stream(self.job.seed, operation.path)
        try:
            if operation.fold is not None:
                self.log.carry_out(operation.module, operation.fold, Step(operation.rule, "fold", "fold"))
            values = self.values.get(operation.module) if operation.fit is not None else None
            step = operation.step()
            self.log.carry_out(operation.module, operation.change, step, stream=stream, values=values)
        except Exception as error:
            raise ConversionError(f"{operation.path!r}: {operation.how} failed: {error}") from error
        self.operations.append(operation)

    def withdraw_unused(self) -> Reasons:
        """Take back the replacements that example inputs show to be unused."""
        inputs = self.job.look.example_inputs
        replaced = [o for o in self.operations if o.action == "replace"]
        if inputs is None or not replaced:
            return {}
        found = unproven(self.job.look.model, inputs, [o.module for o in replaced])
        if found:
            others = [o for o in self.operations if o.module not in found or o.action != "replace"]
            self.roll_back()
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
        self.operations.clear()
        self.log.undo_all()
        if self.groups is not None:
            self.groups.restore()


def _additions(operations: Sequence[Operation]) -> Iterator[tuple[nn.Module, str, nn.Parameter]]:
    for operation in operations:
        folded = operation.fold.adds if operation.fold is not None else {}
        for name, recipe in {**folded, **operation.change.adds}.items():
            if recipe.kind == "parameter":
                parameter = operation.module._parameters[name]
                if parameter is not None:
                    borrowed = operation.borrow is not None
                    holder = operation.own[0].container if borrowed else operation.module
                    yield holder, f"{operation.path}.{name}", parameter

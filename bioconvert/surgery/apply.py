"""Carrying a plan out, all or nothing."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

from bioconvert.core.errors import BioconvertError, CheckpointError, ConversionError, Refused, ResourceError
from bioconvert.core.new_tensors import keeping
from bioconvert.core.random import Stream
from bioconvert.layers.acting import every_layer_called
from bioconvert.ruleset import RuleSet
from bioconvert.surgery.calibrate import Calibration, kept_batches
from bioconvert.surgery.fit import Values, fitted_values
from bioconvert.surgery.handing_on import handed_on
from bioconvert.surgery.look import Look
from bioconvert.surgery.operations import Operation
from bioconvert.surgery.optimizer import GroupsBefore, add_parameters
from bioconvert.surgery.prove import unproven
from bioconvert.surgery.samples import Inputs
from bioconvert.surgery.sequence import (
    StepLog,
    change_others,
    drop_followers,
    own_layers,
    rewritten_containers,
)
from bioconvert.surgery.step import Step, steps_of
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
    if any(operation.is_sequential for operation in job.operations) or isinstance(job.batches, Iterator):
        job = dataclasses.replace(job, batches=kept_batches(job.batches))
    attempt = _Attempt(job)
    with _all_or_nothing(attempt):
        reasons = _misunderstood(job)
        attempt.values, unfitted = _values(job)
        reasons |= unfitted
        reasons |= attempt.fit_in_order([o for o in job.operations if o.key not in reasons])
        attempt.convert([o for o in job.operations if o.key not in reasons])
        reasons |= attempt.withdraw_unused()
        if reasons and strict:
            listed = "; ".join(f"{path!r}: {reason}" for (path, _), reason in reasons.items())
            raise ConversionError(f"not every layer could be replaced: {listed}")
        attempt.finish()
    for (path, _), reason in reasons.items():
        _log.warning("%s is left as it was: %s", path, reason)
    return reasons


def rehearse(job: Job) -> None:
    """Do what a plan says with the values that recipes give: nothing is fitted and no use is proven.

    Raises:
        ConversionError: something failed; the model is as it was.
    """
    attempt = _Attempt(job)
    with _all_or_nothing(attempt), keeping(lambda _: None):
        attempt.convert(job.operations)


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
        operation.key: UNFAITHFUL.format(type(hit.container).__name__)
        for operation in job.operations
        if operation.drop is not None
        for hit in operation.drop.hits()
        if hit.container in found
    }


def _values(job: Job) -> tuple[dict[nn.Module, Values], Reasons]:
    """Find the values of layers that are fitted to what the original gives, in one run for all of them."""
    fitted = {o.module: o for o in job.operations if o.fit is not None and not o.is_sequential}
    fits = {module: o.fit for module, o in fitted.items() if o.fit is not None}
    with _layers_called(fitted.values()):
        results = fitted_values(job.look.model, fits, job.batches)
    values: dict[nn.Module, Values] = {}
    reasons: Reasons = {}
    for module, found in results.items():
        if isinstance(found, Refused):
            reasons[fitted[module].key] = found.reason
        else:
            values[module] = fitted[module].named(found)
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

    def fit_in_order(self, operations: Sequence[Operation]) -> Reasons:
        """Find the values of layers that are fitted to the network that those before them have become."""
        pending = [operation for operation in operations if operation.is_sequential]
        if not pending:
            return {}
        calibration = Calibration(
            model=self.job.look.model,
            operations=operations,
            batches=list(self.job.batches),
            values=self.values,
            converted=self._converted,
            called=_layers_called,
        )
        refused = calibration.fit(pending)
        return {o.key: refused[o.module].reason for o in pending if o.module in refused}

    @contextmanager
    def _converted(self, operations: Sequence[Operation]) -> Iterator[None]:
        """Convert some of the modules for a while."""
        try:
            self.convert(operations)
            yield
        finally:
            self.roll_back()

    def convert(self, operations: Sequence[Operation]) -> None:
        with torch.no_grad():
            for operation in operations:
                self._convert_one(operation)
            change_others(self.operations, self.log, self.job.seed)
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
            if operation.receiver is not None and values is not None:
                self._hand_on(operation, operation.receiver, values)
        except (CheckpointError, ResourceError):
            raise  # values that are read only now could not be
        except Exception as error:
            raise ConversionError(f"{operation.path!r}: {operation.how} failed: {error}") from error
        self.operations.append(operation)

    def _hand_on(self, operation: Operation, receiver: nn.Module, values: Values) -> None:
        scale, offset = (values[name] for name in operation.change.handed_on or ())
        self.log.carry_out(receiver, handed_on(receiver, scale, offset), Step(operation.rule, "fold", "fold"))

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
        return {o.key: found[o.module] for o in replaced if o.module in found}

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
    served: set[nn.Parameter] = set()
    for operation in operations:
        for each in operation.elsewhere:
            for name in each.change.adds:
                parameter = each.module._parameters.get(name)
                if parameter is not None and parameter not in served:
                    served.add(parameter)
                    yield operation.module, f"{each.path}.{name}" if each.path else name, parameter
        folded = operation.fold.adds if operation.fold is not None else {}
        for name, recipe in {**folded, **operation.change.adds}.items():
            if recipe.kind == "parameter":
                parameter = operation.module._parameters[name]
                if parameter is not None:
                    borrowed = operation.borrow is not None
                    holder = operation.own[0].container if borrowed else operation.module
                    yield holder, f"{operation.path}.{name}", parameter

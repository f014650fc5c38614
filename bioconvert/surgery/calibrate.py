"""Fitting layers one after another, each in the network that those before it have become.

Of the original's outputs, as many layers' are kept at once as fit into a fixed room, and at least one's: the
memory it takes doesn't grow with the depth of the network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from bioconvert.core.change import SequentialFit
from bioconvert.core.errors import OptionError, Refused
from bioconvert.core.progress import progress
from bioconvert.surgery.finalize import arrived
from bioconvert.surgery.fit import Values
from bioconvert.surgery.operations import Operation
from bioconvert.surgery.prove import NEVER_RAN
from bioconvert.surgery.samples import (
    Inputs,
    blamed,
    execution_order,
    hooked,
    in_mode,
    preserved,
    run,
    tensors_in,
)

MOST_SAMPLES = 1_024
"""Samples that are used of a calibration set; more of them hardly change two numbers a unit."""
ROOM = 256 * 2**20
"""Bytes of the original's outputs that are kept at once."""

Targets = list[list[torch.Tensor]]
"""What is kept of the original's outputs: for each batch, one tensor for each call of the layer."""


class _Enough(BaseException):
    """Leaves a model's forward where the rest is of no use; no error, so that no model catches it."""


def kept_batches(batches: Iterable[Inputs]) -> list[Inputs]:
    """Take as many batches as are of use; they are run through again and again.

    Raises:
        OptionError: there are none.
    """
    kept: list[Inputs] = []
    samples = 0
    for batch in batches:
        kept.append(batch)
        sizes = [tensor.shape[0] for tensor in tensors_in(batch) if tensor.dim()]
        samples += max(sizes, default=1)
        if samples >= MOST_SAMPLES:
            break
    if not kept:
        raise OptionError("calibration holds no batch: give an iterable of tensors, tuples or dicts")
    return kept


@dataclass
class Calibration:
    """What is needed to fit layers one after another.

    Args:
        model: the original model.
        operations: all that is to be done to it.
        batches: the samples.
        values: what was found for the layers so far; what is found is added.
        converted: converts some of the operations' modules for a while.
        called: lets containers call the layers whose weights they read for a while.
    """

    model: nn.Module
    operations: Sequence[Operation]
    batches: Sequence[Inputs]
    values: dict[nn.Module, Values]
    converted: Callable[[Sequence[Operation]], AbstractContextManager[object]]
    called: Callable[[Sequence[Operation]], AbstractContextManager[object]]
    fitted: int = 0
    refused: dict[nn.Module, Refused] = field(default_factory=dict)

    def fit(self, pending: Sequence[Operation]) -> dict[nn.Module, Refused]:
        """Fit the layers of some operations; gives those that can't be."""
        left = list(pending)
        # Auxiliary heads run in training alone.
        for training in (False, True):
            if left:
                order = self._order(training=training)
                ready = sorted((o for o in left if o.module in order), key=lambda o: order[o.module])
                self._fit_in_order(ready, order, len(pending), training=training)
                left = [operation for operation in left if operation.module not in order]
        self.refused |= {operation.module: Refused(NEVER_RAN) for operation in left}
        return self.refused

    def _order(self, *, training: bool) -> dict[nn.Module, int]:
        with self.called(self.operations):
            order = execution_order(self.model, self.batches[0], training=training)
        return {module: i for i, module in enumerate(order)}

    def _fit_in_order(
        self, ready: Sequence[Operation], order: Mapping[nn.Module, int], total: int, *, training: bool
    ) -> None:
        waiting = list(ready)
        while waiting:
            targets = self._targets(waiting, training=training)
            for operation in waiting:
                if operation.module in targets:
                    progress("calibrating", self.fitted + len(self.refused), total)
                    before = [o for o in self.operations if self._is_before(o, operation, order)]
                    self._fit_one(operation, targets.pop(operation.module), before, training=training)
            waiting = [operation for operation in waiting if not self._is_done(operation)]
        progress("calibrating", self.fitted + len(self.refused), total)

    def _is_before(self, one: Operation, other: Operation, order: Mapping[nn.Module, int]) -> bool:
        if one.module in self.refused or one.module is other.module:
            return False
        return order.get(one.module, len(order)) < order[other.module]

    def _is_done(self, operation: Operation) -> bool:
        return operation.module in self.values or operation.module in self.refused

    def _targets(self, waiting: Sequence[Operation], *, training: bool) -> dict[nn.Module, Targets]:
        """Run the original and keep the outputs of the first layers, as many as there is room for."""
        found: dict[nn.Module, Targets] = {operation.module: [] for operation in waiting}
        fits = {operation.module: _fit_of(operation) for operation in waiting}

        def called(layer: nn.Module, args: tuple[Any, ...], output: Any) -> None:  # noqa: ARG001
            if layer not in found:
                return
            try:
                found[layer][-1].append(fits[layer].target(layer, output))
            except Refused as reason:
                self.refused[layer] = reason
                del found[layer]

        with (
            self.called(waiting),
            _running(self.model, training=training),
            hooked(layer.register_forward_hook(called) for layer in fits),
        ):
            for i, batch in enumerate(self.batches):
                for each in found.values():
                    each.append([])
                run(self.model, batch)
                if i == 0:
                    _keep_what_fits(found, len(self.batches))
        return found

    def _fit_one(
        self, operation: Operation, targets: Targets, before: Sequence[Operation], *, training: bool
    ) -> None:
        layer, fit = operation.module, _fit_of(operation)
        try:
            with (
                self.converted(before),
                arrived(self.model),
                self.called([operation]),
                _running(self.model, training=training),
            ):
                for batch, wanted in zip(self.batches, targets, strict=True):
                    for given, target in zip(self._inputs(layer, batch, wanted), wanted, strict=True):
                        fit.observe(layer, given, target)
                self.values[layer] = operation.named(fit.solve(layer))
                self.fitted += 1
        except Refused as reason:
            self.refused[layer] = reason

    def _inputs(self, layer: nn.Module, batch: Inputs, wanted: Sequence[object]) -> list[torch.Tensor]:
        """Run the network converted so far, up to the last call of a layer, and give what it is given."""
        inputs: list[torch.Tensor] = []

        def called(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            inputs.append((args[0] if args else next(iter(kwargs.values()))).detach())
            if len(inputs) == len(wanted):
                raise _Enough

        with hooked([layer.register_forward_pre_hook(called, with_kwargs=True)]), suppress(_Enough):
            run(self.model, batch)
        if len(inputs) != len(wanted):
            raise Refused("it is not called as often in the converted network as in the original")
        return inputs


@contextmanager
def _running(model: nn.Module, *, training: bool) -> Iterator[None]:
    with (
        preserved(model),
        in_mode(model, training=training),
        torch.no_grad(),
        blamed("the model fails on a batch of sample data", but=(Refused,)),
    ):
        yield


def _fit_of(operation: Operation) -> SequentialFit:
    assert isinstance(operation.fit, SequentialFit)
    return operation.fit


def _keep_what_fits(found: dict[nn.Module, Targets], batches: int) -> None:
    """Go on with the first layers alone, if what there is to keep of all of them takes too much room."""
    needed = 0
    for i, layer in enumerate(list(found)):
        kept = (tensor for call in found[layer] for tensor in call)
        needed += batches * sum(tensor.numel() * tensor.element_size() for tensor in kept)
        if i and needed > ROOM:
            del found[layer]

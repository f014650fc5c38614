"""What a model costs, before a conversion and after it: parameters, bytes, operations of one call."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import FlopCounterMode

from bioconvert.core.errors import BioconvertError, first_line
from bioconvert.core.random import undrawn
from bioconvert.graph.progress import counter_of
from bioconvert.graph.tree import ModuleTree
from bioconvert.surgery.apply import Job, rehearse
from bioconvert.surgery.finalize import finalize
from bioconvert.surgery.look import unwrapped
from bioconvert.surgery.plan import Plan, make_plan
from bioconvert.surgery.samples import Inputs, in_mode, preserved, run
from bioconvert.surgery.step import steps_of

NO_INPUTS = "not known without example inputs (--inputs or --input-shape)"
LARGEST = 1 << 30
"""Bytes of a model that is copied with its values where it can't run without them."""
_DIFFERS = "not known: planning on a copy of the model gives another plan"


@dataclass(frozen=True, slots=True)
class ModuleCosts:
    """What a module holds itself, without the modules in it; a tied tensor counts where it is met first.

    Args:
        path: its first dotted name.
        kind: name of its class.
        parameters: number of values in parameters.
        buffers: number of values in buffers.
        nbytes: bytes of both.
    """

    path: str
    kind: str
    parameters: int
    buffers: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Costs:
    """What a model costs.

    Args:
        modules: what each module holds, in the order of the model.
        flops: floating-point operations of one call in evaluation, those of matrix products, convolutions
            and attention, a multiplication and an addition counted as two; ``None`` where not known.
        unknown: why they aren't known.
    """

    modules: tuple[ModuleCosts, ...]
    flops: int | None = None
    unknown: str = ""

    @property
    def parameters(self) -> int:
        """Number of values in parameters."""
        return sum(module.parameters for module in self.modules)

    @property
    def buffers(self) -> int:
        """Number of values in buffers."""
        return sum(module.buffers for module in self.modules)

    @property
    def nbytes(self) -> int:
        """Bytes of parameters and buffers."""
        return sum(module.nbytes for module in self.modules)

    def subtotals(self) -> dict[str, tuple[int, int]]:
        """Give the parameters and bytes of each module with all that is in it, by path."""
        totals: dict[str, tuple[int, int]] = {}
        for module in self.modules:
            for path in _with_containers(module.path):
                parameters, nbytes = totals.get(path, (0, 0))
                totals[path] = (parameters + module.parameters, nbytes + module.nbytes)
        return totals


@dataclass(frozen=True, slots=True)
class CostChange:
    """What a model costs before a conversion and after it.

    Args:
        before: the costs of the model.
        after: those of the converted one; ``None`` where they can't be known without converting.
    """

    before: Costs
    after: Costs | None

    @property
    def unknown(self) -> str:
        """Why the operations aren't known; empty where they are."""
        return self.before.unknown or (_DIFFERS if self.after is None else self.after.unknown)

    def to_dict(self) -> dict[str, object]:
        """Give the totals as values that JSON can hold."""
        return {
            "parameters": self._pair("parameters"),
            "buffers": self._pair("buffers"),
            "bytes": self._pair("nbytes"),
            "flops": {**self._pair("flops"), "unknown": self.unknown or None},
        }

    def _pair(self, name: str) -> dict[str, int | None]:
        return {
            "before": getattr(self.before, name),
            "after": None if self.after is None else getattr(self.after, name),
        }


def costs_of(model: nn.Module, inputs: Inputs | None = None) -> Costs:
    """Say what a model costs; nothing of it changes.

    A call is counted on a copy without values, on the meta device, or on the model itself where that can't
    run there. What still morphs is counted as if it had arrived.

    Args:
        model: any module, converted or not.
        inputs: example inputs; without them the operations are not known.

    Example:
        >>> costs = costs_of(nn.Linear(8, 3), (torch.zeros(2, 8),))
        >>> costs.parameters, costs.nbytes, costs.flops
        (27, 108, 96)
    """
    root = unwrapped(model)
    if inputs is None:
        return Costs(_module_costs(root), None, NO_INPUTS)
    return _Costed.of(root, inputs).costs(root)


def planned_costs(plan: Plan) -> CostChange:
    """Say what a plan's model costs and would cost converted; the plan is carried out on a copy of it.

    Args:
        plan: the plan; its example inputs are those that a call is counted on.
    """
    job = plan._job
    costed = _Costed.of(job.look.model, job.look.example_inputs)
    before = costed.costs(job.look.model)
    try:
        converted = _rehearsed(job, costed)
    except (BioconvertError, NotImplementedError, RuntimeError):
        converted = None
    if converted is None:
        return CostChange(before, None)
    modules = _module_costs(converted)
    flops, unknown = _flops(_arrived(converted), costed.inputs, costed.unknown)
    return CostChange(before, Costs(modules, flops, unknown))


def without_values(model: nn.Module) -> nn.Module:
    """Copy a model onto the meta device: no memory for its tensors, ties and all else as they are."""
    memo: dict[int, Any] = {}
    for tensor in _tensors_of(model):
        empty = torch.empty_like(tensor, device="meta")
        is_parameter = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if is_parameter else empty
    return copy.deepcopy(model, memo)


@dataclass(frozen=True, slots=True)
class _Costed:
    """A copy of a model on which a call can be counted.

    Args:
        copied: the copy.
        inputs: what to call it with; ``None`` where it can't be called.
        flops: the operations of the call.
        unknown: why they aren't known.
    """

    copied: nn.Module
    inputs: Inputs | None
    flops: int | None
    unknown: str

    @classmethod
    def of(cls, model: nn.Module, inputs: Inputs | None) -> _Costed:
        """Copy a model without values, or with them where it can't run without them."""
        empty = without_values(model)
        flops, unknown = _flops(_arrived(empty), _on_meta(inputs), NO_INPUTS)
        if flops is not None or inputs is None:
            return cls(empty, _on_meta(inputs), flops, unknown)
        size = sum(module.nbytes for module in _module_costs(model))
        if size > LARGEST or any(tensor.is_meta for tensor in _tensors_of(model)):
            return cls(empty, None, None, unknown)
        whole = copy.deepcopy(model)
        flops, unknown = _flops(_arrived(whole), inputs, NO_INPUTS)
        return cls(whole, inputs if flops is not None else None, flops, unknown)

    def costs(self, model: nn.Module) -> Costs:
        """Give the costs of the model that this is a copy of."""
        return Costs(_module_costs(model), self.flops, self.unknown)


def _rehearsed(job: Job, costed: _Costed) -> nn.Module | None:
    """Carry a plan out on a copy; ``None`` where the same rules would do something else to it."""
    batches = job.batches
    example = (
        isinstance(batches, tuple)
        and len(batches) < 2
        and all(batch is job.look.example_inputs for batch in batches)
    )
    again = make_plan(
        costed.copied,
        job.rule_set,
        example_inputs=costed.inputs,
        calibration=None if example else (),
        seed=job.seed,
    )._job
    if {operation.key for operation in again.operations} != {operation.key for operation in job.operations}:
        return None
    if _is_empty(costed.copied):
        # Drawing billions of numbers only to forget them would take longer than all else.
        with contextlib.suppress(BioconvertError), undrawn():
            rehearse(again)
            return costed.copied
    rehearse(again)
    return costed.copied


def _flops(model: nn.Module, inputs: Inputs | None, otherwise: str) -> tuple[int | None, str]:
    """Count the operations of a call; where that isn't possible, say why."""
    if inputs is None:
        return None, otherwise
    try:
        with preserved(model), in_mode(model, training=False), torch.no_grad():
            with FlopCounterMode(display=False) as counter:
                run(model, inputs)
            return int(counter.get_total_flops()), ""
    except Exception as error:  # noqa: BLE001 - a model of whatever code fails in whatever way
        return None, f"not known: the model fails on the inputs ({first_line(error)})"


def _arrived(model: nn.Module) -> nn.Module:
    """Give a copy's layers that morph their final form; other models as they are."""
    if all(counter_of(module) is None for module in model.modules()):
        return model
    return finalize(without_values(model) if _is_empty(model) else copy.deepcopy(model))


def _is_empty(model: nn.Module) -> bool:
    return any(tensor.is_meta for tensor in _tensors_of(model))


def _on_meta(inputs: Inputs | None) -> Inputs | None:
    def moved(leaf: Any) -> Any:
        return leaf.to("meta") if isinstance(leaf, torch.Tensor) else leaf

    moved_inputs: Inputs | None = pytree.tree_map(moved, inputs)
    return moved_inputs


def _tensors_of(model: nn.Module) -> Iterator[torch.Tensor]:
    """Give every tensor that modules hold: parameters, buffers, attributes, originals of overwritten ones."""
    for module in model.modules():
        tables: tuple[Mapping[str, object], ...] = (module._parameters, module._buffers, vars(module))
        for table in (*tables, *(step.kept for step in steps_of(module))):
            yield from (value for value in table.values() if isinstance(value, torch.Tensor))


def _with_containers(path: str) -> Iterator[str]:
    yield ""
    for at, character in enumerate(path):
        if character == ".":
            yield path[:at]
    if path:
        yield path


def _module_costs(model: nn.Module) -> tuple[ModuleCosts, ...]:
    seen: set[int] = set()
    found = []
    for place in ModuleTree(model).modules():
        sizes = []
        for table in (place.module._parameters, place.module._buffers):
            new = [t for t in table.values() if t is not None and id(t) not in seen]
            seen.update(map(id, new))
            sizes.append((sum(t.numel() for t in new), sum(t.nbytes for t in new)))
        (parameters, one), (buffers, other) = sizes
        found.append(ModuleCosts(place.name, type(place.module).__name__, parameters, buffers, one + other))
    return tuple(found)

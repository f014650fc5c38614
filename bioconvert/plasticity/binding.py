"""Letting mechanisms act around each step of an optimizer."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from bioconvert.plasticity.mechanism import Mechanism
from bioconvert.plasticity.moment import Moment
from bioconvert.plasticity.part import flat, parts
from bioconvert.plasticity.synapses import Synapses


@dataclass(eq=False)
class Acting:
    """The mechanisms of one parameter that act at a step.

    Args:
        synapses: the parameter.
        moment: the step.
        on_gradient: those whose rates multiply the gradient.
        on_update: those whose rates multiply the update.
        others: those that change weights afterwards, or only take note.
    """

    synapses: Synapses
    moment: Moment
    on_gradient: list[Mechanism] = field(default_factory=list)
    on_update: list[Mechanism] = field(default_factory=list)
    others: list[Mechanism] = field(default_factory=list)


class Binding:
    """The hooks on one optimizer; they keep the mechanisms alive as long as the optimizer lives.

    Args:
        optimizer: the optimizer.
        synapses: the parameters that it holds.
        steps: the number of steps that were done before.
    """

    def __init__(self, optimizer: Optimizer, synapses: Sequence[Synapses], steps: int = 0):
        self.synapses = tuple(synapses)
        self.steps = steps
        self._optimizer = weakref.ref(optimizer)
        self._acting: list[Acting] = []
        self._handles: list[RemovableHandle] = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
        ]
        for each in self.synapses:
            for mechanism in each.mechanisms:
                self._handles += mechanism.watch(each)

    def remove(self) -> None:
        """Let the optimizer step alone again."""
        for handle in self._handles:
            handle.remove()

    @property
    def optimizer(self) -> Optimizer | None:
        """The optimizer, as long as it lives."""
        return self._optimizer()

    @torch.no_grad()
    def _before(self, optimizer: Optimizer, *_: Any) -> None:
        self._acting = [] if _is_skipped(optimizer) else list(self._due(optimizer))
        for acting in self._acting:
            for mechanism in (*acting.on_gradient, *acting.on_update, *acting.others):
                mechanism.prepare(acting.synapses, acting.moment)
            if acting.on_gradient:
                _scale_gradient(acting)
            if acting.on_update or any(mechanism.compares for mechanism in acting.others):
                weight = acting.synapses.weight.detach()
                acting.moment.before = weight.clone(memory_format=torch.preserve_format)

    @torch.no_grad()
    def _after(self, optimizer: Optimizer, *_: Any) -> None:
        if _is_skipped(optimizer):
            return
        for acting in self._acting:
            if acting.on_update:
                _scale_update(acting)
            acting.moment.state = optimizer.state.get(acting.synapses.weight, {})
            for mechanism in (*acting.on_gradient, *acting.on_update, *acting.others):
                mechanism.change(acting.synapses, acting.moment)
        self._acting = []
        self.steps += 1

    def _due(self, optimizer: Optimizer) -> Iterator[Acting]:
        """Give what acts at this step; a parameter without a gradient is not updated, and left alone."""
        groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
        for synapses in self.synapses:
            weight = synapses.weight
            due = [mechanism for mechanism in synapses.mechanisms if mechanism.is_due(self.steps)]
            if not due or weight.grad is None or id(weight) not in groups:
                continue
            group = groups[id(weight)]
            moment = Moment(self.steps, _unscaled(optimizer, weight.grad), group, before=weight.detach())
            acting = Acting(synapses, moment)
            for mechanism in due:
                _place_for(mechanism, acting, optimizer, group).append(mechanism)
            yield acting


def _place_for(
    mechanism: Mechanism, acting: Acting, optimizer: Optimizer, group: dict[str, Any]
) -> list[Mechanism]:
    if not mechanism.scales:
        return acting.others
    if mechanism.target == "auto":
        linear = type(optimizer) is torch.optim.SGD and not group.get("weight_decay")
        return acting.on_gradient if linear else acting.on_update
    return acting.on_gradient if mechanism.target == "gradient" else acting.on_update


def _scale_gradient(acting: Acting) -> None:
    assert acting.synapses.weight.grad is not None
    gradient = flat(acting.synapses.weight.grad)
    for part in parts(acting.synapses, acting.moment):
        for mechanism in acting.on_gradient:
            mechanism.scale(part)
        if part.factor is not None:
            gradient[part.place].mul_(part.factor)


def _scale_update(acting: Acting) -> None:
    weight = flat(acting.synapses.weight)
    for part in parts(acting.synapses, acting.moment):
        for mechanism in acting.on_update:
            mechanism.scale(part)
        if part.factor is not None:
            after = weight[part.place]
            torch.lerp(part.weight, after, part.factor.to(after.dtype), out=after)


def _is_skipped(optimizer: Optimizer) -> bool:
    """Say whether a fused optimizer leaves this step out, since a scaler found overflows."""
    found = getattr(optimizer, "found_inf", None)
    return found is not None and bool(found)


def _unscaled(optimizer: Optimizer, gradient: torch.Tensor) -> torch.Tensor:
    """Give the gradient without the factor of a scaler, which a fused optimizer takes off by itself."""
    scale = getattr(optimizer, "grad_scale", None)
    return gradient if scale is None else gradient / scale

"""Letting mechanisms act around each step of an optimizer."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from bioconvert.core.errors import OptionError
from bioconvert.graph.progress import count_step
from bioconvert.plasticity.layout import flat, laid_like
from bioconvert.plasticity.mechanism import Mechanism
from bioconvert.plasticity.moment import Moment
from bioconvert.plasticity.part import parts
from bioconvert.plasticity.shards import is_distributed, local
from bioconvert.plasticity.synapses import Synapses

_log = logging.getLogger("bioconvert")
Told = Callable[["Binding"], None]


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

    @property
    def mechanisms(self) -> tuple[Mechanism, ...]:
        """All of them, in the order in which they act."""
        found = (*self.on_gradient, *self.on_update, *self.others)
        return tuple(sorted(found, key=lambda mechanism: mechanism.closes))

    @property
    def compares(self) -> bool:
        """Whether the weight before the step is needed afterwards."""
        return bool(self.on_update) or any(mechanism.compares for mechanism in self.mechanisms)


class Binding:
    """The hooks on one optimizer; they keep the mechanisms alive as long as the optimizer lives.

    Args:
        optimizer: the optimizer.
        synapses: the model's parameters that mechanisms are attached to.
        morphing: the modules whose steps towards their replacement the optimizer's steps count.
        after_step: called after each step.
        on_change: called before a step at which the optimizer holds more or fewer parameters than before.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        synapses: Sequence[Synapses],
        morphing: Sequence[nn.Module] = (),
        after_step: Told | None = None,
        on_change: Told | None = None,
    ):
        self.synapses = synapses
        self.morphing = tuple(morphing)
        self.steps = 0
        self._after_step = after_step
        self._on_change = on_change
        self._count = len(_groups(optimizer))
        self._optimizer = weakref.ref(optimizer)
        self._acting: list[Acting] = []
        self._ready = self._lost = False
        self._handles: list[RemovableHandle] = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
        ]

    def remove(self) -> None:
        """Let the optimizer step alone again."""
        for handle in self._handles:
            handle.remove()

    @property
    def optimizer(self) -> Optimizer | None:
        """The optimizer, as long as it lives."""
        return self._optimizer()

    @property
    def held(self) -> list[Synapses]:
        """The parameters that the optimizer holds at present."""
        optimizer = self.optimizer
        groups = _groups(optimizer) if optimizer is not None else {}
        return [synapses for synapses in self.synapses if id(synapses.held) in groups]

    def _before(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Prepare a step now or, if a closure finds the gradients, as soon as it has."""
        self._ready, self._acting = False, []
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if closure is None:
            self._prepare(optimizer)
            return None

        def prepared() -> Any:
            loss = closure()
            self._prepare(optimizer)
            return loss

        if "closure" in kwargs:
            return args, {**kwargs, "closure": prepared}
        return (args[0], prepared, *args[2:]), kwargs

    @torch.no_grad()
    def _prepare(self, optimizer: Optimizer) -> None:
        if _is_skipped(optimizer):
            return
        _unscale(optimizer)
        self._acting = list(self._due(optimizer))
        # Whatever is wrong shows itself here, before anything has changed.
        for acting in self._acting:
            for mechanism in acting.mechanisms:
                mechanism.prepare(acting.synapses, acting.moment)
        for acting in self._acting:
            if acting.on_gradient:
                _scale_gradient(acting)
            if acting.compares:
                weight = acting.synapses.weight.detach()
                acting.moment.before = weight.clone(memory_format=torch.preserve_format)
        self._ready = True

    @torch.no_grad()
    def _after(self, optimizer: Optimizer, *_: Any) -> None:
        if not self._ready:
            return
        acting, self._acting, self._ready = self._acting, [], False
        for each in acting:
            if each.on_update:
                _scale_update(each)
            each.moment.state = _local_state(optimizer.state.get(each.synapses.held, {}))
            each.moment.states = optimizer.state
            for mechanism in each.mechanisms:
                mechanism.change(each.synapses, each.moment)
        for module in self.morphing:
            count_step(module)
        self.steps += 1
        if self._after_step is not None:
            self._after_step(self)

    def _due(self, optimizer: Optimizer) -> Iterator[Acting]:
        """Give what acts at this step; a parameter without a gradient is not updated, and left alone."""
        groups = _groups(optimizer)
        if len(groups) != self._count and self._on_change is not None:
            self._count = len(groups)
            self._on_change(self)
        self._warn_if_lost(groups)
        for synapses in self.synapses:
            held = synapses.held
            due = [mechanism for mechanism in synapses.mechanisms if mechanism.is_due(self.steps)]
            if not due or held.grad is None or id(held) not in groups:
                continue
            _check(synapses)
            group, weight = groups[id(held)], synapses.weight.detach()
            moment = Moment(self.steps, local(held.grad), group, before=weight)
            acting = Acting(synapses, moment)
            for mechanism in due:
                _place_for(mechanism, acting, optimizer, group).append(mechanism)
            yield acting

    def _warn_if_lost(self, groups: dict[int, dict[str, Any]]) -> None:
        if not self._lost and self.synapses and not any(id(each.held) in groups for each in self.synapses):
            self._lost = True
            _log.warning(
                "the optimizer no longer holds any of the weights that mechanisms of plasticity are attached "
                "to, since others are in their place, as load_state_dict(assign=True), to_empty and "
                "fully_shard put them there: make and bind an optimizer afterwards"
            )


def _groups(optimizer: Optimizer) -> dict[int, dict[str, Any]]:
    """Give the settings for each parameter of an optimizer, by the parameter's ``id``."""
    return {id(p): group for group in optimizer.param_groups for p in group["params"]}


def _check(synapses: Synapses) -> None:
    gradient = synapses.held.grad
    assert gradient is not None
    if gradient.layout is not torch.strided:
        raise OptionError(
            f"the gradient of {synapses.path!r} is sparse: mechanisms of plasticity need dense gradients "
            "(for an embedding, sparse=False)"
        )


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
    given, weight = acting.moment.gradient, acting.moment.before
    assert given is not None
    assert weight is not None
    laid = laid_like(given, weight)
    gradient = flat(laid)
    for part in parts(acting.synapses, acting.moment):
        for mechanism in acting.on_gradient:
            mechanism.scale(part)
        part.scale(gradient[part.place])
    if laid is not given:
        given.copy_(laid)


def _scale_update(acting: Acting) -> None:
    weight = flat(acting.synapses.weight)
    for part in parts(acting.synapses, acting.moment):
        for mechanism in acting.on_update:
            mechanism.scale(part)
        factor = part.factor
        if factor is not None:
            after = weight[part.place]
            torch.lerp(part.weight, after, factor.to(after.dtype), out=after)


def _is_skipped(optimizer: Optimizer) -> bool:
    """Say whether a fused optimizer leaves this step out, since a scaler found overflows."""
    found = getattr(optimizer, "found_inf", None)
    return found is not None and bool(found)


def _unscale(optimizer: Optimizer) -> None:
    """Take a scaler's factor off the gradients, as a fused optimizer would by itself a moment later."""
    scale: torch.Tensor | None = getattr(optimizer, "grad_scale", None)
    if scale is None:
        return
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                gradient = local(parameter.grad)
                gradient.div_(scale.to(gradient.device))
    optimizer.grad_scale = None  # type: ignore[attr-defined]


def _local_state(state: dict[str, Any]) -> dict[str, Any]:
    """Give what the optimizer keeps of a parameter, as far as this process holds it."""
    if not any(isinstance(value, torch.Tensor) and is_distributed(value) for value in state.values()):
        return state
    return {key: local(value) if isinstance(value, torch.Tensor) else value for key, value in state.items()}

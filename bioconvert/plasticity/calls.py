"""Calls of mechanisms in a training loop, carried out around the next step of whichever optimizer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from bioconvert.core.change import Change, Site
from bioconvert.core.errors import OptionError, Refused
from bioconvert.plasticity.binding import Binding
from bioconvert.plasticity.by_hand import ATTRIBUTE, STEPS
from bioconvert.plasticity.mechanism import Mechanism, buffer_name, mechanism_named
from bioconvert.plasticity.moment import Moment
from bioconvert.plasticity.synapses import Synapses, synapses_in

_called: WeakKeyDictionary[nn.Module, dict[str, None]] = WeakKeyDictionary()
"""The mechanisms, in order, that were called for each model since its last step."""
_bindings: WeakKeyDictionary[Optimizer, Binding] = WeakKeyDictionary()
_stepped: WeakSet[Optimizer] = WeakSet()
_MEANT: dict[str, dict[str, Any]] = {"synaptic_scaling": {"scope": "gradient"}, "dale": {"by": "projection"}}
"""Options that the names of the methods settle."""
_CALLED = ("crystallize", "dale", "fuzzy_lr", "rejuvenate", "synaptic_scaling", "volume_lr")
"""The mechanisms that have a method."""


def call(model: nn.Module, name: str) -> None:
    """Let a mechanism act at the next step; called again before it, that makes no difference.

    Raises:
        OptionError: there is no gradient to act on, or nothing is attached to the model.
    """
    synapses = synapses_of(model)
    if all(each.held.grad is None for each in synapses):
        raise OptionError(
            f"there is no gradient yet, for {synapses[0].path!r} as for all others: call {name} between "
            "backward() and the optimizer's step()"
        )
    _called.setdefault(model, {})[name] = None


def synapses_of(model: nn.Module, name: str = "") -> list[Synapses]:
    """Give the weights that mechanisms are attached to, with one of these, ready to act at any step.

    Args:
        model: the model.
        name: the mechanism; what it knows of a weight is made where it isn't attached to it.

    Raises:
        OptionError: there are none.
    """
    found = synapses_in(model, vars(model)[ATTRIBUTE]["seed"])
    if not found:
        raise OptionError("no mechanism of plasticity is attached to the model's weights")
    if not name:
        return found
    chosen = (replace(each, mechanisms=_acting(model, each, (name,))) for each in found)
    return [each for each in chosen if each.mechanisms]


def steps_done(model: nn.Module) -> int:
    """Give the number of steps at which a call acted on a model's weights."""
    return int(_counter(model))


def forget(model: nn.Module) -> None:
    """Remove what mechanisms know of weights that they aren't attached to."""
    prefixes = tuple(f"{name}_" for name in _CALLED)
    for module in model.modules():
        for name in [each for each in module._non_persistent_buffers_set if each.startswith(prefixes)]:
            module.__delattr__(name)
    _called.pop(model, None)


def moment_of(model: nn.Module, synapses: Synapses) -> Moment:
    """Give the present moment of a weight: with what is known of it by the optimizer that stepped it last."""
    moment = Moment(steps_done(model), before=synapses.weight.detach())
    for optimizer in _stepped:
        if any(p is synapses.held for group in optimizer.param_groups for p in group["params"]):
            moment.state, moment.states = optimizer.state.get(synapses.held, {}), optimizer.state
    return moment


def _acting(model: nn.Module, synapses: Synapses, names: tuple[str, ...]) -> tuple[Mechanism, ...]:
    attached = {mechanism.name: mechanism for mechanism in synapses.mechanisms}
    options = vars(model)[ATTRIBUTE]
    found = (attached.get(name) or mechanism_named(name, options.get(name, {})) for name in names)
    # A call says when: no schedule counts.
    always = (
        replace(each, every=1, start=0, stop=None, warmup=0, **_MEANT.get(each.name, {})) for each in found
    )
    return tuple(each for each in always if each.name in attached or _provided(synapses, each))


def _provided(synapses: Synapses, mechanism: Mechanism) -> bool:
    """Make what a mechanism knows of a weight that it isn't attached to, outside of the model's state.

    Returns:
        Whether it can work on the weight.
    """
    module, parameter = synapses.module, synapses.parameter
    site = Site(synapses.path.removesuffix(f".{parameter}"), is_last=synapses.index == synapses.count - 1)
    try:
        mechanism.check(module, parameter)
        amended = mechanism.amend(Change(), module, parameter, site)
    except Refused:
        return False
    recipes = {buffer_name(mechanism.name, parameter, k): v for k, v in mechanism.tensors(parameter).items()}
    for name, recipe in {**recipes, **amended.adds}.items():
        if name not in module._buffers:
            made = recipe.make({parameter: synapses.held.detach()}, synapses.stream)
            module.register_buffer(name, made.to(synapses.held.device), persistent=False)
    return True


def _before_step(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Have what was called for the optimizer's weights ready when its own hooks run, right after this."""
    _stepped.add(optimizer)
    closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
    if closure is None:
        if optimizer in _bindings or _called:
            _take(optimizer)
        return None
    _binding_of(optimizer).synapses = []

    def called() -> Any:
        loss = closure()
        _take(optimizer)
        return loss

    if "closure" in kwargs:
        return args, {**kwargs, "closure": called}
    return (args[0], called, *args[2:]), kwargs


def _binding_of(optimizer: Optimizer) -> Binding:
    if optimizer not in _bindings:
        _bindings[optimizer] = Binding(optimizer, [], after_step=_count)
    return _bindings[optimizer]


def _take(optimizer: Optimizer) -> None:
    """Let what was called for an optimizer's weights act at its present step, after which it is done."""
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    binding = _binding_of(optimizer)
    binding.synapses = taken = []
    for model, names in list(_called.items()):
        own = [each for each in synapses_of(model) if id(each.held) in held]
        if not own:
            continue
        del _called[model]
        _check(optimizer, own, names)
        binding.steps = max(binding.steps, steps_done(model))
        taken += [replace(each, mechanisms=_acting(model, each, tuple(names))) for each in own]


def _check(optimizer: Optimizer, own: list[Synapses], names: dict[str, None]) -> None:
    if isinstance(optimizer, torch.optim.LBFGS):
        raise OptionError("LBFGS evaluates the loss several times a step: there is no one gradient to act on")
    owners = (getattr(hook, "__self__", None) for hook in optimizer._optimizer_step_pre_hooks.values())
    bound = [each for each in owners if isinstance(each, Binding) and each is not _bindings[optimizer]]
    driven = {(id(s.held), m.name) for binding in bound for s in binding.synapses for m in s.mechanisms}
    twice = [(each.path, name) for each in own for name in names if (id(each.held), name) in driven]
    if twice:
        raise OptionError(
            f"{twice[0][1]} acts on {twice[0][0]!r} by itself, since the optimizer is bound: leave the call "
            "out, or unbind()"
        )


def _count(binding: Binding) -> None:
    for model in {id(each.model): each.model for each in binding.synapses}.values():
        assert model is not None
        _counter(model).fill_(binding.steps)


def _counter(model: nn.Module) -> torch.Tensor:
    counter = model._buffers[STEPS]
    assert counter is not None
    return counter


# Which optimizer will step a weight isn't known when a mechanism is called: all of them are seen.
register_optimizer_step_pre_hook(_before_step)

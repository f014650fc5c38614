"""What one step of a conversion did to a module, and the class that a module's steps lead to."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from bioconvert.core.change import Hook
from bioconvert.graph.classes import STEPS, Recipe, compose, packed
from bioconvert.graph.edits import Edit
from bioconvert.graph.redirect import Borrow, Path, answering_class, redirecting_class
from bioconvert.graph.rewrite import rewritten_class
from bioconvert.surgery.morphing import Follower, Morph, morphing_class


@dataclass(frozen=True, slots=True)
class Dropping:
    """The activation that went with a layer.

    Args:
        activation: its class name; empty where none went.
        norm: dotted name of the normalisation between the layer and it, if there is one.
        norm_dropped: whether that went too.
    """

    activation: str
    norm: str | None = None
    norm_dropped: bool = False


@dataclass
class Step:
    """What one step did to a module, and what it takes to undo it.

    Args:
        rule: name of the rule.
        action: ``"replace"``, ``"attach <mechanism>"``, ``"wrap"``, ``"drop"``, ``"fold"``, ``"rewrite"`` or
            ``"own"``, or ``"serve"`` for what other modules need.
        name: the name that the rule file gives to what was done, such as ``"YatLinear"``.
        into: the class whose behaviour the module took on.
        previous: the module's class before.
        attributes: plain values set on the instance.
        added: names of new parameters and buffers.
        filled: names among ``added`` that were registered as ``None`` before.
        kept: the old values of tensors that were overwritten.
        edits: what was changed in the module's own forward.
        redirects: names of the children that lead to each layer which answers for its weight.
        borrows: the layers, children since then, that answer for the module's own parameters.
        called: those of the redirects that the module may call, too.
        answers: whether the module answers for its weight in a container.
        dropping: the activation that went with the layer.
        morph: how the module goes over to what it becomes; ``None`` if it does so at once.
        after: what the original's output goes through while it does.
        parameter: the parameter that a rule named; empty where it named the module.
        frozen: parameters that are trained no more until the step is undone.
        hooks: what the module calls before and after its forward, as the change told.
        hooked: the callables that it calls, likewise.
    """

    rule: str
    action: str
    name: str
    into: type[nn.Module] | None = None
    previous: type[nn.Module] = nn.Module
    attributes: dict[str, object] = field(default_factory=dict)
    added: tuple[str, ...] = ()
    filled: tuple[str, ...] = ()
    kept: dict[str, torch.Tensor] = field(default_factory=dict)
    edits: tuple[Edit, ...] = ()
    redirects: tuple[Path, ...] = ()
    borrows: tuple[Borrow, ...] = ()
    called: tuple[Path, ...] = ()
    answers: bool = False
    dropping: Dropping | None = None
    morph: Morph | None = None
    after: tuple[Follower, ...] = ()
    parameter: str = ""
    frozen: tuple[str, ...] = ()
    hooks: tuple[Hook, ...] = ()
    hooked: tuple[Callable[..., object], ...] = ()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "previous": packed(self.previous)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        previous = state["previous"]
        vars(self).update(state, previous=previous.cook() if isinstance(previous, Recipe) else previous)

    def class_on(self, base: type[nn.Module]) -> type[nn.Module]:
        """Give the class of a ``base`` module that has been through this step."""
        if self.edits:
            return rewritten_class(base, self.edits)
        if self.redirects or self.borrows:
            return redirecting_class(base, self.redirects, self.borrows, self.called)
        if self.answers:
            return answering_class(base)
        if self.into is None:
            return base
        if self.morph is not None:
            return morphing_class(self.into, base, self.morph.own)
        return compose(self.into, base)


def own_values(attributes: Mapping[str, object]) -> dict[str, object]:
    """Give a module's own copy of attributes: what may change is copied, and numbers and words are not."""
    return {
        name: copy.deepcopy(value) if isinstance(value, (dict, list, tuple, set)) else value
        for name, value in attributes.items()
    }


def steps_of(module: nn.Module) -> list[Step]:
    """Give the steps that a module has been through, the first one first."""
    found: list[Step] = vars(module).get(STEPS, [])
    return found


def put_on(module: nn.Module, step: Step, cls: type[nn.Module] | None = None) -> None:
    """Give a module the class that a step leads to, beneath what stays outermost.

    Args:
        module: the module.
        step: the step, which isn't on record yet.
        cls: the class that the step makes of the one beneath it, if that is made already.
    """
    step.previous = beneath(module, step)
    cls = step.class_on(step.previous) if cls is None else cls
    for each in steps_of(module)[place_for(module, step) :]:
        each.previous, cls = cls, each.class_on(cls)
    set_class(module, cls)


def take_off(module: nn.Module, step: Step) -> None:
    """Take a step from the record, and give the module the class that the others lead to."""
    steps = steps_of(module)
    place = next(i for i, each in enumerate(steps) if each is step)
    del steps[place]
    cls = step.previous
    for each in steps[place:]:
        each.previous, cls = cls, each.class_on(cls)
    if not steps:
        del vars(module)[STEPS]
    set_class(module, cls)


def place_for(module: nn.Module, step: Step) -> int:
    """Say where among a module's steps one belongs: before those whose class stays outermost."""
    steps = steps_of(module)
    if _stays_outermost(step):
        return len(steps)
    return next((i for i, each in enumerate(steps) if _stays_outermost(each)), len(steps))


def _stays_outermost(step: Step) -> bool:
    return bool(getattr(step.into, "stays_outermost", False))


def beneath(module: nn.Module, step: Step) -> type[nn.Module]:
    """Give the class that a step is to change."""
    above = steps_of(module)[place_for(module, step) :]
    return above[0].previous if above else type(module)


def set_class(module: nn.Module, cls: type[nn.Module]) -> None:
    """Change the class of a module, past any ``__setattr__`` of its own."""
    object.__setattr__(module, "__class__", cls)

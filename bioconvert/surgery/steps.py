"""One step of a conversion on one module: doing it, undoing it, and what must be remembered in between.

The steps are kept on the module itself, so that they follow it through ``deepcopy``, pickle and into another
model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from bioconvert.core.change import Change, Hook, TensorRecipe
from bioconvert.core.random import Stream
from bioconvert.graph.borrowing import give_up, lend
from bioconvert.graph.classes import STEPS, Recipe, compose, packed
from bioconvert.graph.edits import FADE_STEP, Edit, Fade
from bioconvert.graph.redirect import Borrow, Path, answering_class, redirecting_class
from bioconvert.graph.rewrite import rewrite_of, rewritten_class
from bioconvert.graph.trace import set_training
from bioconvert.layers.tolerance import insist, tolerate
from bioconvert.surgery.hooking import hook_up, made_hooks, unhook
from bioconvert.surgery.morphing import AFTER, Follower, Morph, forget, morphing_class

NO_STREAM = Stream(0, "")


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
            ``"own"``.
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


def steps_of(module: nn.Module) -> list[Step]:
    """Give the steps that a module has been through, the first one first."""
    found: list[Step] = vars(module).get(STEPS, [])
    return found


def conflicts(module: nn.Module, change: Change) -> list[str]:
    """Name what a change would add and the module has already."""
    own = vars(module)
    taken = [name for name in (*change.attributes, *change.adds) if name in own or name in module._modules]
    return taken + [name for name in change.adds if _tensor(module, name) is not None]


def carry_out(
    module: nn.Module,
    change: Change,
    step: Step,
    *,
    stream: Stream = NO_STREAM,
    values: Mapping[str, torch.Tensor] | None = None,
) -> Step:
    """Change a module; if that fails, the module is as it was.

    Args:
        module: the module, changed in place.
        change: what becomes of it.
        step: what to put on record; what the change says is filled in.
        stream: the random numbers for new values.
        values: values found from sample data, instead of the recipes'.
    """
    made = {**change.adds, **change.overwrites}
    new = {each: _made(module, each, recipe, stream, values or {}) for each, recipe in made.items()}
    step.into, step.previous, step.attributes = change.into, type(module), dict(change.attributes)
    step.hooks, step.hooked = change.hooks, made_hooks(change.hooks)
    step.added = tuple(change.adds)
    step.filled = tuple(each for each in change.adds if _is_registered(module, each))
    step.kept = {each: _require(module, each).detach().clone() for each in change.overwrites}
    set_class(module, step.class_on(type(module)))
    vars(module).update(step.attributes)
    if step.morph is not None:
        vars(module)[AFTER] = step.after
    for each, recipe in change.adds.items():
        table: dict[str, Any] = module._parameters if recipe.kind == "parameter" else module._buffers
        table[each] = new[each]
    for each in change.overwrites:
        with torch.no_grad():
            _require(module, each).copy_(new[each])
    if change.freezes:
        freeze(module, step, names=change.freezes)
    hook_up(module, step.hooks, step.hooked)
    remember(module, step)
    return step


def rewrite(container: nn.Module, edits: Iterable[Edit], *, rule: str) -> Step:
    """Give a container a forward of its own with some calls left out.

    Raises:
        Untraceable: its forward can't be traced, or the calls aren't there; the container is as it was.
    """
    step = Step(rule, "rewrite", "rewrite", previous=type(container), edits=tuple(edits))
    cls = step.class_on(type(container))
    rewrite_of(cls).prepare(container)
    if any(isinstance(edit, Fade) for edit in step.edits) and FADE_STEP not in container._buffers:
        like = next(container.parameters(), None)
        device = like.device if like is not None else None
        container._buffers[FADE_STEP] = torch.zeros(1, dtype=torch.int64, device=device)
        step.added = (FADE_STEP,)
    set_class(container, cls)
    remember(container, step)
    return step


def redirect(
    container: nn.Module,
    paths: Mapping[Path, bool],
    borrowers: Mapping[Borrow, nn.Module],
    *,
    rule: str,
) -> Step:
    """Let layers answer for their weights in a container that hands these to functions.

    Args:
        container: the container.
        paths: for each layer below it, the names of the children that lead there, and whether the container
            may call it, too.
        borrowers: the layers that become children and work with the container's own parameters.
        rule: name of the rule, for the record.
    """
    step = Step(rule, "own", "redirect", previous=type(container), redirects=tuple(paths))
    step.borrows, step.called = tuple(borrowers), tuple(path for path, called in paths.items() if called)
    for borrow, layer in borrowers.items():
        give_up(layer)
        set_training(layer, container.training)
        container._modules[borrow.child] = layer
    set_class(container, step.class_on(type(container)))
    remember(container, step)
    return step


def answer(layer: nn.Module, *, rule: str) -> Step:
    """Let a layer's own operations be its own where it answers for its weight."""
    step = Step(rule, "own", "answer", previous=type(layer), answers=True)
    set_class(layer, step.class_on(type(layer)))
    remember(layer, step)
    return step


def rebuild(module: nn.Module) -> None:
    """Give a module the class that its steps, which may have changed, lead to."""
    steps = steps_of(module)
    cls = steps[0].previous
    for step in steps:
        step.previous, cls = cls, step.class_on(cls)
        if step.edits:
            rewrite_of(cls).prepare(module)
    set_class(module, cls)


def undo(module: nn.Module) -> Step:
    """Undo a module's last step.

    Tensors that the step overwrote get their old values back; everything else keeps its present values.
    """
    steps = steps_of(module)
    step = steps.pop()
    if not steps:
        del vars(module)[STEPS]
    hand_back(module, step, for_good=True)
    insist(module, step.added)
    set_class(module, step.previous)
    for borrow in step.borrows:
        layer = module._modules.pop(borrow.child)
        if layer is not None:
            lend(layer, borrow, module)
    for name in step.attributes:
        vars(module).pop(name, None)
    if step.morph is not None:
        forget(module)
    unhook(module, step.hooked)
    for name in step.added:
        table = module._parameters if name in module._parameters else module._buffers
        if name in step.filled:
            module._parameters[name] = None
        else:
            del table[name]
            module._non_persistent_buffers_set.discard(name)
    for name, value in step.kept.items():
        with torch.no_grad():
            _require(module, name).copy_(value)
    for name in step.frozen:
        _require(module, name).requires_grad_(True)
    return step


def hand_back(module: nn.Module, step: Step, *, for_good: bool) -> None:
    """Let the class that a step gave a module leave it as the class before expects it, if it has a way to.

    Args:
        module: the module.
        step: the step.
        for_good: whether the step is undone, or left out for a while.
    """
    leave = getattr(step.into, "leave", None)
    if leave is not None:
        leave(module, for_good=for_good)


def freeze(
    module: nn.Module, step: Step, tied: Container[int] = (), *, names: Container[str] | None = None
) -> None:
    """Stop training what a module holds for a work that it no longer does.

    Who reduces gradients over processes would wait for them in vain.

    Args:
        module: the module.
        step: the step that ended its work.
        tied: the ``id`` of parameters that others hold too, which go on.
        names: the parameters that it is about; ``None`` for all.
    """
    own = {name: p for name, p in module._parameters.items() if p is not None and id(p) not in tied}
    idle = [name for name, p in own.items() if p.requires_grad and (names is None or name in names)]
    for name in idle:
        own[name].requires_grad_(False)
    step.frozen = (*step.frozen, *idle)


def tied_parameters(model: nn.Module) -> set[int]:
    """Give the ``id`` of parameters that several modules hold."""
    held = Counter(id(p) for m in model.modules() for p in m._parameters.values() if p is not None)
    return {key for key, count in held.items() if count > 1}


def set_class(module: nn.Module, cls: type[nn.Module]) -> None:
    """Change the class of a module, past any ``__setattr__`` of its own."""
    object.__setattr__(module, "__class__", cls)


def remember(module: nn.Module, step: Step) -> None:
    """Put a step on record."""
    vars(module).setdefault(STEPS, []).append(step)
    if step.added:
        changed = dict.fromkeys(name for each in steps_of(module) for name in each.kept)
        tolerate(module, step.added, changed)


def _made(
    module: nn.Module,
    name: str,
    recipe: TensorRecipe,
    stream: Stream,
    values: Mapping[str, torch.Tensor],
) -> torch.Tensor:
    value = values.get(name)
    if value is None:
        value = recipe.make({each: _read(module, each).detach() for each in recipe.reads}, stream)
    if recipe.like is None:
        return value.detach()
    like: torch.Tensor = _read(module, recipe.like)
    dtype = like.dtype if value.is_floating_point() else value.dtype
    value = value.detach().to(device=like.device, dtype=dtype)
    if recipe.kind == "buffer":
        return value
    return nn.Parameter(value, requires_grad=like.requires_grad)


def _read(module: nn.Module, name: str) -> torch.Tensor:
    """Give a tensor of a module's own, also one that a hook computes, as old-style weight_norm does."""
    tensor: torch.Tensor = _tensor(module, name)
    return getattr(module, name) if tensor is None else tensor


def _tensor(module: nn.Module, name: str) -> Any:
    return module._parameters.get(name, module._buffers.get(name))


def _require(module: nn.Module, name: str) -> torch.Tensor:
    tensor: torch.Tensor = _tensor(module, name)
    return tensor


def _is_registered(module: nn.Module, name: str) -> bool:
    return name in module._parameters or name in module._buffers

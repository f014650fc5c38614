"""One step of a conversion on one module: doing it, undoing it, and what must be remembered in between.

The steps are kept on the module itself, so that they follow it through ``deepcopy``, pickle and into another
model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from bioconvert.core.change import Change
from bioconvert.core.new_tensors import announce
from bioconvert.core.random import Stream
from bioconvert.graph.borrowing import give_up, lend
from bioconvert.graph.classes import STEPS
from bioconvert.graph.edits import FADE_STEP, Edit, Fade
from bioconvert.graph.redirect import Borrow, Path
from bioconvert.graph.rewrite import rewrite_of
from bioconvert.graph.trace import set_training
from bioconvert.layers.tolerance import insist, tolerate
from bioconvert.surgery.hooking import hook_up, made_hooks, unhook
from bioconvert.surgery.morphing import AFTER, forget
from bioconvert.surgery.own_tensors import is_registered, made_tensor, own_tensor, required
from bioconvert.surgery.step import (
    Step,
    beneath,
    own_values,
    place_for,
    put_on,
    set_class,
    steps_of,
    take_off,
)

NO_STREAM = Stream(0, "")


def conflicts(module: nn.Module, change: Change) -> list[str]:
    """Name what a change would add and the module has already."""
    own = vars(module)
    taken = [name for name in (*change.attributes, *change.adds) if name in own or name in module._modules]
    return taken + [name for name in change.adds if own_tensor(module, name) is not None]


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
    new = {each: made_tensor(module, each, recipe, stream, values or {}) for each, recipe in made.items()}
    step.into, step.attributes = change.into, dict(change.attributes)
    step.hooks, step.hooked = change.hooks, made_hooks(change.hooks)
    step.added = tuple(change.adds)
    step.filled = tuple(each for each in change.adds if is_registered(module, each))
    step.kept = {each: required(module, each).detach().clone() for each in change.overwrites}
    put_on(module, step)
    vars(module).update(own_values(step.attributes))
    if step.morph is not None:
        vars(module)[AFTER] = step.after
    for each, recipe in change.adds.items():
        table: dict[str, Any] = module._parameters if recipe.kind == "parameter" else module._buffers
        table[each] = new[each]
    for each in change.overwrites:
        with torch.no_grad():
            required(module, each).copy_(new[each])
    if change.freezes:
        freeze(module, step, names=change.freezes)
    hook_up(module, step.hooks, step.hooked)
    remember(module, step)
    announce((*(new[each] for each in change.adds), *step.kept.values()))
    return step


def rewrite(container: nn.Module, edits: Iterable[Edit], *, rule: str) -> Step:
    """Give a container a forward of its own with some calls left out.

    Raises:
        Untraceable: its forward can't be traced, or the calls aren't there; the container is as it was.
    """
    step = Step(rule, "rewrite", "rewrite", edits=tuple(edits))
    cls = step.class_on(beneath(container, step))
    rewrite_of(cls).prepare(container)
    if any(isinstance(edit, Fade) for edit in step.edits) and FADE_STEP not in container._buffers:
        like = next(container.parameters(), None)
        device = like.device if like is not None else None
        container._buffers[FADE_STEP] = torch.zeros(1, dtype=torch.int64, device=device)
        step.added = (FADE_STEP,)
    put_on(container, step, cls)
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
    step = Step(rule, "own", "redirect", redirects=tuple(paths))
    step.borrows, step.called = tuple(borrowers), tuple(path for path, called in paths.items() if called)
    for borrow, layer in borrowers.items():
        give_up(layer)
        set_training(layer, container.training)
        container._modules[borrow.child] = layer
    put_on(container, step)
    remember(container, step)
    return step


def answer(layer: nn.Module, *, rule: str) -> Step:
    """Let a layer's own operations be its own where it answers for its weight."""
    step = Step(rule, "own", "answer", answers=True)
    put_on(layer, step)
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


def undo(module: nn.Module, step: Step | None = None) -> Step:
    """Undo one of a module's steps, the last one unless it is named.

    Tensors that the step overwrote get their old values back; everything else keeps its present values.
    """
    steps = steps_of(module)
    step = steps[-1] if step is None else step
    hand_back(module, step, for_good=True)
    insist(module, step.added)
    take_off(module, step)
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
            required(module, name).copy_(value)
    for name in step.frozen:
        required(module, name).requires_grad_(True)
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


def remember(module: nn.Module, step: Step) -> None:
    """Put a step on record."""
    vars(module).setdefault(STEPS, []).insert(place_for(module, step), step)
    if step.added:
        changed = dict.fromkeys(name for each in steps_of(module) for name in each.kept)
        tolerate(module, step.added, changed)

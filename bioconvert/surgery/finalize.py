"""The end of morphing: counting its steps, and leaving the replacements alone."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from bioconvert.graph.edits import Fade
from bioconvert.graph.progress import count_step, counter_of
from bioconvert.layers.tolerance import insist, tolerate
from bioconvert.organism.optimizer import forget as forget_parameters
from bioconvert.surgery.look import unwrapped
from bioconvert.surgery.morphing import ADDED, PREFIX, STEP, STEPS, forget
from bioconvert.surgery.step import Step, steps_of
from bioconvert.surgery.steps import freeze, rebuild, tied_parameters

_ALL = 2**40
"""More steps than any morph takes."""


def morph_step(model: nn.Module) -> float:
    r"""Let every morphing layer of a model go one step further.

    Args:
        model: the model, wrapped by DDP, FSDP or a compiler or not; call this once after each step of its
            optimizer, unless that is bound to a ``Plasticity`` of the model, which does it.

    Returns:
        The least :math:`\lambda` of its layers by then; 1 when all have arrived, or none morphs.

    Example:
        >>> import bioconvert as bc
        >>> rule = {"match": {"type": "linear"}, "replace": {"with": "YatLinear", "morph": {"steps": 4}}}
        >>> model = bc.convert(nn.Sequential(nn.Linear(4, 4)), {"version": 1, "rules": [rule]})
        >>> morph_step(model)
        0.25
    """
    least = 1.0
    for module in model.modules():
        lengths = [length for step in steps_of(module) for length in _lengths(step)]
        counter = counter_of(module)
        if lengths and counter is not None:
            count_step(module)
            if not counter.is_meta:
                least = min(least, int(counter) / max(lengths))
    return least


@contextmanager
def halfway(model: nn.Module) -> Iterator[None]:
    """Let original and replacement of every morphing layer be at work for a while."""
    morphing = [module for module in model.modules() if STEPS in vars(module)]
    before = [(module, vars(module)[STEPS]) for module in morphing]
    for module in morphing:
        vars(module)[STEPS] = 2
    try:
        with _counted(morphing, 1):
            yield
    finally:
        for module, steps in before:
            vars(module)[STEPS] = steps


@contextmanager
def arrived(model: nn.Module) -> Iterator[None]:
    """Let the replacement of everything that morphs be at work alone for a while."""
    with _counted(model.modules(), _ALL):
        yield


@contextmanager
def _counted(modules: Iterable[nn.Module], count: int) -> Iterator[None]:
    """Set the counters of morphing modules for a while."""
    counters = [counter for module in modules if (counter := counter_of(module)) is not None]
    before = [(counter, counter.clone()) for counter in counters]
    for counter in counters:
        counter.fill_(count)
    try:
        yield
    finally:
        for counter, done in before:
            counter.copy_(done)


def _lengths(step: Step) -> list[int]:
    faded = [edit.steps for edit in step.edits if isinstance(edit, Fade)]
    return [*faded, step.morph.steps] if step.morph is not None else faded


def finalize(model: nn.Module, *, optimizer: torch.optim.Optimizer | None = None) -> nn.Module:
    """Leave the replacements of all morphing layers alone, however far they have come.

    What the originals needed goes; :func:`revert` still brings them back. A model in which nothing morphs
    stays as it is.

    Args:
        model: the model, changed in place.
        optimizer: forgets the parameters whose values go over to others.

    Returns:
        The same model.

    Example:
        >>> import bioconvert as bc
        >>> rule = {"match": {"type": "linear"}, "replace": {"with": "YatLinear", "morph": {"steps": 4}}}
        >>> model = bc.convert(nn.Sequential(nn.Linear(4, 4)), {"version": 1, "rules": [rule]})
        >>> type(finalize(model)[0]).__name__
        'YatLinear'
    """
    removed: list[torch.Tensor] = []
    root = unwrapped(model)
    tied = tied_parameters(root)
    for module in root.modules():
        steps = [step for step in steps_of(module) if _lengths(step)]
        for step in steps:
            _retire(module, step, tied)
            removed += _finish(module, step)
        if steps:
            rebuild(module)
    if optimizer is not None:
        forget_parameters(optimizer, removed)
    return model


def _retire(module: nn.Module, step: Step, tied: Container[int]) -> None:
    """Stop training what only the original had a use for."""
    retired = [each for each in step.after if isinstance(each, nn.Module)]
    for each in [*retired, module] if step.action == "drop" else retired:
        for drop in steps_of(each):
            if drop.action == "drop" and not drop.frozen:
                freeze(each, drop, tied)


def _finish(module: nn.Module, step: Step) -> list[torch.Tensor]:
    """Let one step have come to its end; gives the parameters that go."""
    insist(module, step.added)
    step.edits = tuple(edit.drop if isinstance(edit, Fade) else edit for edit in step.edits)
    gone = [_settle(module, step, name) for name in (step.morph.own if step.morph is not None else ())]
    if step.morph is not None:
        step.attributes = {
            name: value for name, value in step.attributes.items() if name not in (STEPS, ADDED)
        }
        forget(module)
    module._buffers.pop(STEP, None)
    step.added = tuple(name for name in step.added if name != STEP)
    step.morph, step.after = None, ()
    if step.added:
        tolerate(module, step.added, step.kept)
    return [tensor for tensor in gone if tensor is not None]


def _settle(module: nn.Module, step: Step, name: str) -> torch.Tensor | None:
    """Put a tensor of the replacement in the place of the original's; give it if that one stays."""
    held = f"{PREFIX}{name}"
    tensor = module._parameters.pop(held)
    assert tensor is not None
    old = module._parameters.get(name)
    if old is None:
        module._parameters[name] = tensor
        step.filled = (*step.filled, name)
        step.added = tuple(name if each == held else each for each in step.added)
        return None
    step.kept[name] = old.detach().clone()
    step.added = tuple(each for each in step.added if each != held)
    with torch.no_grad():
        old.copy_(tensor)
    return tensor

"""Undoing a conversion, for good or for the time of a comparison."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from bioconvert.graph.classes import original_class
from bioconvert.graph.grown import ORGANISM, is_put_together, without_grown
from bioconvert.graph.resizing import fit_state, note_of, restore
from bioconvert.organism.optimizer import forget
from bioconvert.surgery.apply import RECORD
from bioconvert.surgery.look import unwrapped
from bioconvert.surgery.step import set_class, steps_of
from bioconvert.surgery.steps import hand_back, undo


def revert(model: nn.Module, *, optimizer: torch.optim.Optimizer | None = None) -> nn.Module:
    """Give every module of a model its original class back, and remove what conversion added.

    Trained values of ``weight`` and ``bias`` stay as trained; values that a rule itself overwrote come back.
    A layer that was widened keeps its first units; one that lost units gets ones that give nothing.
    A model that was never converted is left as it is.

    Args:
        model: the model, changed in place.
        optimizer: forgets the parameters that conversion had added.

    Returns:
        The same model.
    """
    root = unwrapped(model)
    before = list(root.parameters())
    sizes: dict[torch.Tensor, torch.Size] = {}
    for module in list(root.modules()):
        if note_of(module) is not None:
            sizes = {**restore(module), **sizes}
        while steps_of(module):
            undo(module)
    for name in (RECORD,) if is_put_together(root) else (RECORD, ORGANISM):
        vars(root).pop(name, None)
    if optimizer is not None:
        left = {id(p) for p in root.parameters()}
        forget(optimizer, [p for p in before if id(p) not in left])
        for tensor, shape in sizes.items():
            fit_state(optimizer, tensor, shape)
    return model


@contextmanager
def as_original(model: nn.Module) -> Iterator[None]:
    """Let a converted model compute what the original did, with its present weights, for a while."""
    with ExitStack() as stack:
        for module in list(model.modules()):
            if steps_of(module):
                stack.enter_context(without_grown(module))
                stack.enter_context(_module_as_original(module))
        yield


@contextmanager
def _module_as_original(module: nn.Module) -> Iterator[None]:
    own = type(module)
    for step in reversed(steps_of(module)):
        hand_back(module, step, for_good=False)
    filled = {name: module._parameters[name] for step in steps_of(module) for name in step.filled}
    # Where several steps overwrote a tensor, the first one kept the original's values.
    kept = {name: value for step in reversed(steps_of(module)) for name, value in step.kept.items()}
    tensors = {name: getattr(module, name) for name in kept}
    present = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    set_class(module, original_class(module))
    module._parameters.update(dict.fromkeys(filled))
    with torch.no_grad():
        for name, value in kept.items():
            tensors[name].copy_(value)
    try:
        yield
    finally:
        set_class(module, own)
        module._parameters.update(filled)
        with torch.no_grad():
            for name, value in present.items():
                tensors[name].copy_(value)

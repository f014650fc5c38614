"""A branch's own part of a cache of keys and values that its parent fills.

Caches of transformers hold one layer for each attention, by number. A clone has its parent's numbers, so it
is shown the cache with layers of its own in those places. They lie in the same cache, behind the others, so
that whatever is done to all of it (reordering for beam search, cropping) is done to them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

_SLOTS = "_bioconvert_slots"
_NOTES = "_bioconvert_notes"
_Slots = dict[tuple[str, int], int]


def own_caches(args: Any, kwargs: Any, block: nn.Module) -> tuple[Any, Any]:
    """Give arguments in which every cache is what a branch may write to.

    Args:
        args: positional arguments.
        kwargs: keyword arguments.
        block: the branch's module, whose own layers go by its ``id``.
    """
    if not _holds_cache(args) and not (kwargs and _holds_cache(kwargs.values())):
        return args, kwargs
    numbers, record = layer_numbers(block), vars(block).get("node_record")
    owner = "" if record is None else str(record["id"])

    def own(value: Any) -> Any:
        return own_cache(value, numbers, owner) if is_cache(value) else value

    return tuple(own(each) for each in args), {name: own(each) for name, each in kwargs.items()}


def is_cache(value: Any) -> bool:
    """Say whether an argument is one that a layer adds its keys and values to."""
    return callable(getattr(value, "get_seq_length", None)) and callable(getattr(value, "update", None))


def _holds_cache(values: Iterable[Any]) -> bool:
    for value in values:  # noqa: SIM110 (a generator costs as much as a small layer)
        if is_cache(value):
            return True
    return False


def layer_numbers(block: nn.Module) -> list[int]:
    """Give the numbers of the cache layers that a module's attentions fill."""
    found = (getattr(module, "layer_idx", None) for module in block.modules())
    return sorted({number for number in found if isinstance(number, int)})


def own_cache(cache: Any, numbers: list[int], owner: str) -> Any:
    """Show a cache with layers of one's own in the places of some numbers."""
    layers = getattr(cache, "layers", None)
    if not isinstance(layers, list):
        return _own_parts(cache, numbers, owner)
    slots: _Slots = vars(cache).setdefault(_SLOTS, {})
    shown = copy.copy(cache)
    shown.layers = _with_own(cache, layers, numbers, owner, slots)
    return shown


def _own_parts(cache: Any, numbers: list[int], owner: str) -> Any:
    """Show a cache made of others, as that of an encoder and decoder, with its notes of what is filled."""
    notes = {name: value for name, value in vars(cache).items() if isinstance(value, dict) and name != _NOTES}
    own: dict[str, Any] = vars(cache).setdefault(_NOTES, {})
    shown = copy.copy(cache)
    vars(shown).update(own.setdefault(owner, {name: dict(value) for name, value in notes.items()}))
    for name, value in vars(cache).items():
        if is_cache(value):
            setattr(shown, name, own_cache(value, numbers, owner))
    return shown


def _with_own(cache: Any, layers: list[Any], numbers: list[int], owner: str, slots: _Slots) -> list[Any]:
    kind = getattr(cache, "layer_class_to_replicate", None)
    while kind is not None and numbers and len(layers) <= numbers[-1]:
        layers.append(kind())
    shown = list(layers)
    for number in numbers:
        if number >= len(layers):
            continue
        if (owner, number) not in slots:
            slots[owner, number] = len(layers)
            layers.append(_copied(layers[number]))
        shown[number] = layers[slots[owner, number]]
    return shown


def _copied(layer: Any) -> Any:
    """Copy a cache layer; tensors inside a graph of gradients can't be copied deeply."""
    copied = copy.copy(layer)
    tensors = {name: value for name, value in vars(layer).items() if isinstance(value, torch.Tensor)}
    vars(copied).update({name: value.clone() for name, value in tensors.items()})
    return copied

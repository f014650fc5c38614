"""What a manifest says of modules beside their tensors: train flags, frozen parameters, ties, other state."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from bioconvert.checkpoint.folders.manifest import Modes
from bioconvert.checkpoint.tensors.ties import Ties
from bioconvert.core.errors import CheckpointError

Slot = tuple[dict[str, Any], str]


def split_state(model: nn.Module) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Give a model's state dict in two parts: the very tensors, and other state that modules keep there.

    Raises:
        CheckpointError: other state that JSON can't hold.
    """
    tensors: dict[str, torch.Tensor] = {}
    others: dict[str, Any] = {}
    for name, value in model.state_dict(keep_vars=True).items():
        if isinstance(value, torch.Tensor):
            tensors[name] = value
        else:
            others[name] = as_json(value, f"the extra state {name!r}")
            if others[name] != value:
                raise CheckpointError(f"the model can't be saved: JSON would change the extra state {name!r}")
    return tensors, others


def as_json(value: object, what: str) -> Any:
    """Give a value as JSON gives it back.

    Raises:
        CheckpointError: JSON can't hold it.
    """
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"the model can't be saved: {what} can't be held by JSON ({error})") from None


def modes_of(model: nn.Module) -> Modes:
    """Record the train flags."""
    flags = {path: module.training for path, module in model.named_modules(remove_duplicate=False)}
    return Modes(
        training=model.training, exceptions=tuple(p for p in flags if flags[p] is not model.training)
    )


def restore_modes(model: nn.Module, modes: Modes) -> None:
    """Set the train flags as they were recorded, on each module alone."""
    exceptions = set(modes.exceptions)
    for path, module in model.named_modules(remove_duplicate=False):
        module.training = modes.training is not (path in exceptions)


def frozen_parameters(model: nn.Module) -> tuple[str, ...]:
    """Name the parameters without gradient."""
    named = model.named_parameters(remove_duplicate=False)
    return tuple(name for name, parameter in named if not parameter.requires_grad)


def restore_frozen(model: nn.Module, frozen: Collection[str]) -> None:
    """Let exactly the named parameters be without gradient."""
    names = set(frozen)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        parameter.requires_grad_(name not in names)


def restore_ties(model: nn.Module, ties: Ties) -> None:
    """Make the tensors of each group one object, where the model as built has several."""
    slots = dict(_slots(model))
    for group in ties:
        places = [slots[name] for name in group if name in slots]
        for table, name in places[1:]:
            table[name] = places[0][0][places[0][1]]


def _slots(model: nn.Module) -> Iterator[tuple[str, Slot]]:
    """Give the place of every parameter and buffer, under each of its names in a state dict."""
    for path, module in model.named_modules(remove_duplicate=False):
        for table in (module._parameters, module._buffers):
            for name in table:
                yield (f"{path}.{name}" if path else name), (table, name)


def with_aliases(names: Iterable[str], ties: Ties) -> set[str]:
    """Add to some names all that stand for the same tensors."""
    found = set(names)
    return found.union(*(group for group in ties if found.intersection(group)))


def make_loadable(targets: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor]) -> None:
    """Give a model's tensors the number formats of those to be loaded, and memory for each element.

    The objects stay. A buffer that was expanded shows one element several times and can't be written to.
    """
    for name, target in targets.items():
        if name in tensors and target.dtype != tensors[name].dtype:
            target.data = target.data.to(tensors[name].dtype)
        if any(stride == 0 and size > 1 for stride, size in zip(target.stride(), target.shape, strict=True)):
            target.data = target.data.contiguous()

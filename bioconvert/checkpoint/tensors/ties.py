"""Names that stand for one and the same tensor."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping

import torch

Ties = tuple[tuple[str, ...], ...]


def same_object(tensor: torch.Tensor) -> Hashable:
    """Tell tensors apart by identity: a tied Parameter is one object under several names."""
    return id(tensor)


def same_memory(tensor: torch.Tensor) -> Hashable:
    """Tell tensors apart by the memory they show: same storage, offset, shape and strides."""
    if tensor.numel() == 0:
        return id(tensor)
    storage = tensor.untyped_storage()
    return (storage.data_ptr(), tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype)


def tie_groups(tensors: Mapping[str, torch.Tensor], key: Callable[[torch.Tensor], Hashable]) -> Ties:
    """Group the names that stand for one tensor; a group has two or more, in the order of the mapping."""
    groups: dict[Hashable, list[str]] = {}
    for name, tensor in tensors.items():
        groups.setdefault(key(tensor), []).append(name)
    return tuple(tuple(names) for names in groups.values() if len(names) > 1)


def leaders(ties: Ties) -> dict[str, str]:
    """Map each name but the first of a group to that first name, which stands for all in a file."""
    return {name: group[0] for group in ties for name in group[1:]}

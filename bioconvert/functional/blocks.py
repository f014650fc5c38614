"""Walking through a tensor in blocks that fit the processor's cache, with buffers that outlive the walk."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import product
from math import prod

import torch

from bioconvert.functional.eager import has_values

BLOCK = 524_288
"""Elements of a block on the CPU: the few of them in use together fit the cache (measured)."""

Place = tuple[slice, ...]
WHOLE: Place = ()


def places(tensor: torch.Tensor) -> list[Place]:
    """Cut a tensor into blocks along its leading dimensions; one that is small, or elsewhere, is one block."""
    if tensor.numel() <= BLOCK or tensor.device.type != "cpu":
        return [WHOLE]
    return list(_places(tensor.shape))


def at(tensor: torch.Tensor, place: Place) -> torch.Tensor:
    """Give a tensor's part in a block; a dimension of size 1 belongs to every block."""
    if not place:
        return tensor
    whole = slice(None)
    return tensor[tuple(whole if tensor.shape[dim] == 1 else part for dim, part in enumerate(place))]


def buffers(like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Give room for two blocks of a tensor, to be used before the next call in this thread."""
    if not has_values(like):
        return like.new_empty(like.numel()), like.new_empty(like.numel())
    if like.dtype not in _kept.of:
        with torch.inference_mode(False):
            _kept.of[like.dtype] = (
                torch.empty(BLOCK, dtype=like.dtype),
                torch.empty(BLOCK, dtype=like.dtype),
            )
    return _kept.of[like.dtype]


def shaped(room: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Give as much of a buffer as a block takes, in its shape."""
    return room[: like.numel()].view(like.shape)


class _Kept(threading.local):
    """Memory kept from call to call: to get it anew costs more than the arithmetic in it (measured)."""

    def __init__(self) -> None:
        self.of: dict[torch.dtype, tuple[torch.Tensor, torch.Tensor]] = {}


_kept = _Kept()


def _places(shape: torch.Size) -> Iterator[Place]:
    split = next(dim for dim in range(len(shape)) if prod(shape[dim + 1 :]) <= BLOCK)
    steps = [1] * split + [max(1, BLOCK // prod(shape[split + 1 :]))]
    for starts in product(*(range(0, size, step) for size, step in zip(shape, steps, strict=False))):
        yield tuple(slice(start, start + step) for start, step in zip(starts, steps, strict=True))

"""Walking through a tensor in blocks that fit the processor's cache, with buffers that outlive the walk."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from itertools import product
from math import prod
from typing import NamedTuple

import torch

from bioconvert.functional.eager import has_values

BLOCK = 1_048_576
"""Elements of a block on the CPU: the few of them in use together fit the cache (measured)."""

Place = tuple[slice, ...]
WHOLE: Place = ()


def places(tensor: torch.Tensor) -> list[Place]:
    """Cut a tensor into blocks along its leading dimensions; a small one, or one elsewhere, is one block."""
    if tensor.numel() <= BLOCK or tensor.device.type != "cpu":
        return [WHOLE]
    return list(_places(tensor.shape))


def at(tensor: torch.Tensor, place: Place) -> torch.Tensor:
    """Give a tensor's part in a block; a dimension of size 1 belongs to every block."""
    if not place:
        return tensor
    whole = slice(None)
    return tensor[tuple(whole if tensor.shape[dim] == 1 else part for dim, part in enumerate(place))]


class Rooms(NamedTuple):
    """Memory for three blocks."""

    first: torch.Tensor
    second: torch.Tensor
    third: torch.Tensor


def rooms(like: torch.Tensor) -> Rooms:
    """Give room for three blocks of a tensor, to be used before the next call in this thread.

    It is kept from call to call: to get fresh memory takes longer than the arithmetic in it (measured).
    """
    if not has_values(like):
        return Rooms(*(like.new_empty(like.numel()) for _ in range(3)))
    if like.dtype not in _kept.rooms:
        # Freed at once, untouched: glibc hands free memory back to the system, to be faulted in again page by
        # page, once there is twice as much of it as the largest block that was ever freed.
        torch.empty(3 * BLOCK, dtype=like.dtype)
        with torch.inference_mode(False):
            _kept.rooms[like.dtype] = Rooms(*(torch.empty(BLOCK, dtype=like.dtype) for _ in range(3)))
    return _kept.rooms[like.dtype]


def shaped(room: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Give as much of a buffer as a block takes, in its shape."""
    return room[: like.numel()].view(like.shape)


def scratch(like: torch.Tensor, *shapes: Sequence[int]) -> list[torch.Tensor]:
    """Give memory for tensors, to be used before the next call in this thread, or the next of :func:`rooms`.

    Args:
        like: a tensor of their type, on their device.
        shapes: their shapes; what the rooms of three blocks have no more space for gets memory of its own.
    """
    free = list(rooms(like.detach()[(0,) * like.dim()]))
    made = []
    for shape in shapes:
        size = prod(shape)
        room = next((index for index, left in enumerate(free) if left.numel() >= size), None)
        if room is None:
            made.append(like.new_empty(shape))
        else:
            made.append(free[room][:size].view(tuple(shape)))
            free[room] = free[room][size:]
    return made


class _Kept(threading.local):
    def __init__(self) -> None:
        self.rooms: dict[torch.dtype, Rooms] = {}


_kept = _Kept()


def _places(shape: torch.Size) -> Iterator[Place]:
    split = next(dim for dim in range(len(shape)) if prod(shape[dim + 1 :]) <= BLOCK)
    steps = [1] * split + [max(1, BLOCK // prod(shape[split + 1 :]))]
    for starts in product(*(range(0, size, step) for size, step in zip(shape, steps, strict=False))):
        yield tuple(slice(start, start + step) for start, step in zip(starts, steps, strict=True))

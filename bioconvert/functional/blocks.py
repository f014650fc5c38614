"""Walking through a tensor in blocks that fit the processor's cache."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import prod

import torch

BLOCK = 524_288
"""Elements of a block on the CPU: the three or four of them in use together fit a 32 MiB cache (measured)."""

Place = tuple[slice, ...]


def blocks(shape: torch.Size, size: int) -> Iterator[Place]:
    """Cut a shape into blocks of at most ``size`` elements, along the leading dimensions."""
    split = next((d for d in range(len(shape)) if prod(shape[d + 1 :]) <= size), len(shape) - 1)
    step = max(1, size // max(1, prod(shape[split + 1 :])))
    steps = [1] * split + [step]
    ranges = [range(0, shape[dim], steps[dim]) for dim in range(split + 1)]
    for starts in product(*ranges):
        yield tuple(slice(start, start + steps[dim]) for dim, start in enumerate(starts))


def at(tensor: torch.Tensor, place: Place) -> torch.Tensor:
    """Give a tensor's part at a block's place; a dimension of size 1 belongs to every block."""
    whole = slice(None)
    return tensor[tuple(whole if tensor.shape[dim] == 1 else part for dim, part in enumerate(place))]


def add_reduced(total: torch.Tensor, block: torch.Tensor, place: Place, factor: float = 1.0) -> None:
    """Add ``factor`` times a block to ``total``, summed over the dimensions in which ``total`` has size 1."""
    target = at(total, place)
    dims = [dim for dim in range(block.dim()) if target.shape[dim] == 1 and block.shape[dim] != 1]
    target.add_(block.sum(dims, keepdim=True) if dims else block, alpha=factor)

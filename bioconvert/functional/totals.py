"""Reductions of a tensor that is only ever there in blocks."""

from __future__ import annotations

from math import inf

import torch

from bioconvert.functional.blocks import Place, at


class Total:
    """The sum over blocks, in the dimensions in which a tensor has size 1.

    Args:
        like: the tensor whose shape the sum takes; ``None`` if no sum is wanted, which makes it do nothing.
    """

    def __init__(self, like: torch.Tensor | None):
        self._like = like
        self._sum: torch.Tensor | None = None

    def add(self, block: torch.Tensor, place: Place) -> None:
        """Add a block."""
        if self._like is not None:
            dims = unit_dims(self._like)
            self._put(block.sum(dims, keepdim=True) if dims else block.clone(), place)

    def add_product(self, one: torch.Tensor, other: torch.Tensor, place: Place) -> None:
        """Add the product of two contiguous blocks; a single number needs no room for the product itself."""
        if self._like is not None and self._like.numel() == 1:
            self._put(torch.dot(one.view(-1), other.view(-1)).view(self._like.shape), place)
        elif self._like is not None:
            self.add(one * other, place)

    def times(self, factor: float) -> torch.Tensor | None:
        """Give the sum of all blocks times a factor."""
        return None if self._sum is None else self._sum.mul_(factor)

    def _put(self, part: torch.Tensor, place: Place) -> None:
        if not place:
            self._sum = part
            return
        if self._sum is None:
            self._sum = torch.zeros_like(self._like)
        at(self._sum, place).add_(part)


def least_in(block: torch.Tensor, place: Place, least: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
    """Lower ``least``, of the shape of ``like``, to the minimum of a block in the dimensions of size 1."""
    dims = unit_dims(like)
    found = block.amin(dims, keepdim=True) if dims else block.clone()
    if not place:
        return found
    if least is None:
        least = torch.full_like(like, inf)
    part = at(least, place)
    torch.minimum(part, found, out=part)
    return least


def unit_dims(tensor: torch.Tensor) -> list[int]:
    """Name the dimensions of size 1."""
    return [dim for dim, size in enumerate(tensor.shape) if size == 1]

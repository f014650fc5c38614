"""Reductions of a tensor that is only ever there in blocks."""

from __future__ import annotations

import torch

from bioconvert.functional.blocks import BLOCK, Place, at, places, rooms, shaped


class Total:
    """The sum over blocks, in the dimensions in which a tensor has size 1.

    Args:
        like: a tensor of the sum's shape.
    """

    def __init__(self, like: torch.Tensor):
        self._like = like
        self._dims = [dim for dim, size in enumerate(like.shape) if size == 1]
        self._sum: torch.Tensor | None = None

    def add(self, block: torch.Tensor, place: Place) -> None:
        """Add a block."""
        self._put(block.sum(self._dims, keepdim=True) if self._dims else block.clone(), place)

    def add_product(self, one: torch.Tensor, other: torch.Tensor, place: Place) -> None:
        """Add the product of two contiguous blocks; a single number needs no room for the product itself."""
        if self._like.numel() == 1:
            self._put(torch.dot(one.view(-1), other.view(-1)).view(self._like.shape), place)
        else:
            self.add(one * other, place)

    def divide(self, number: float) -> None:
        """Divide what was added so far."""
        self._sum = self.value().div_(number)

    def value(self) -> torch.Tensor:
        """Give the sum of all blocks."""
        return self._like.new_zeros(self._like.shape) if self._sum is None else self._sum

    def _put(self, part: torch.Tensor, place: Place) -> None:
        if not place:
            self._sum = part
            return
        self._sum = self.value()
        at(self._sum, place).add_(part)


def least_in(block: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Give the minimum of a block in the dimensions in which ``like`` has size 1."""
    dims = [dim for dim, size in enumerate(like.shape) if size != block.shape[dim]]
    return block.amin(dims, keepdim=True) if dims else block


def squared_sum(x: torch.Tensor, dim: int) -> torch.Tensor:
    """Sum the squares of ``x`` along one dimension, which stays with size 1; without a graph."""
    if dim % x.dim() == x.dim() - 1 and x.is_contiguous():
        # One pass, where the elements lie side by side.
        length: torch.Tensor = torch.linalg.vector_norm(x, dim=dim, keepdim=True)
        return length.square_()
    room = rooms(x).first
    if x.numel() <= BLOCK:
        return torch.square(x, out=shaped(room, x)).sum(dim, keepdim=True)
    total = Total(x.narrow(dim, 0, 1))
    for place in places(x):
        part = at(x, place)
        total.add(torch.square(part, out=shaped(room, part)), place)
    return total.value()

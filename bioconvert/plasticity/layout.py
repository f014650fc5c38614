"""The order in which a weight's elements lie in memory, which everything else about them follows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bioconvert.core.lazy import LazyModule

if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")


def flat(tensor: torch.Tensor) -> torch.Tensor:
    """Give a tensor as one row that shares its memory, in the order in which the elements lie there."""
    tensor = tensor.detach()
    if tensor.is_contiguous():
        return tensor.view(-1)
    order = sorted(range(tensor.dim()), key=tensor.stride, reverse=True)
    return tensor.permute(order).view(-1)


def full_type(dtype: torch.dtype) -> torch.dtype:
    """Give the type that a type's numbers are worked with in: fp32, or itself if it is wider."""
    return torch.promote_types(dtype, torch.float32) if dtype.itemsize < 4 else dtype


def in_full(tensor: torch.Tensor) -> torch.Tensor:
    """Give a tensor in fp32, or as it is if its type is wider."""
    dtype = tensor.dtype
    return tensor if dtype.itemsize >= 4 else tensor.to(full_type(dtype))


def size_in(room: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Put the magnitudes of a row into a room as long, whose type may be another."""
    # Where types agree, in one pass instead of two.
    return torch.abs(weight, out=room) if weight.dtype == room.dtype else room.copy_(weight).abs_()


def is_dense(tensor: torch.Tensor) -> bool:
    """Say whether a tensor's elements lie in memory without gaps, so that they make one row."""
    order = sorted(range(tensor.dim()), key=tensor.stride, reverse=True)
    return tensor.permute(order).is_contiguous()


def lies_like(tensor: torch.Tensor, weight: torch.Tensor) -> bool:
    """Say whether the elements of two tensors of one shape lie in the same order."""
    both = tensor.is_contiguous() and weight.is_contiguous()
    return both or tensor.stride() == weight.stride()


def laid_like(tensor: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Give a tensor in the order of a weight: itself where it lies so already."""
    if lies_like(tensor, weight):
        return tensor
    return torch.empty_like(weight, dtype=tensor.dtype).copy_(tensor)

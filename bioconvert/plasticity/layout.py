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


def in_full(tensor: torch.Tensor) -> torch.Tensor:
    """Give a tensor in fp32, or as it is if its type is wider."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


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

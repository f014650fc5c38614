"""Sums of squares whose gradient is one pass over the tensor."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import Function

from bioconvert.functional.eager import wants_plain_operations


def squared_norm(x: torch.Tensor, dim: int) -> torch.Tensor:
    r"""Sum the squares of ``x`` along one dimension, which stays with size 1.

    .. math::
        \lVert x \rVert^2 = \sum_i x_i^2

    Args:
        x: the tensor :math:`x`.
        dim: the dimension to sum over.
    """
    if wants_plain_operations():
        return x.square().sum(dim, keepdim=True)
    norm: torch.Tensor = _SquaredNorm.apply(x, dim)  # type: ignore[no-untyped-call]
    return norm


class _SquaredNorm(Function):
    """Keeps ``x`` itself; the plain operations would walk over it three times in backward."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, dim: int) -> torch.Tensor:
        ctx.dim = dim
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)
        return x.square().sum(dim, keepdim=True)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        (x,) = ctx.saved_tensors
        return x * (2 * grads[0]), None

    @staticmethod
    def jvp(ctx: Any, *tangents: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return 2 * (x * tangents[0]).sum(ctx.dim, keepdim=True)

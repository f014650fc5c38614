"""Padding with a number that is learnt."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch.autograd import Function
from torch.nn import functional as F

from bioconvert.functional.eager import wants_plain_operations
from bioconvert.functional.recomputation import recomputed, wants_recomputation


def learnt_padding(x: torch.Tensor, value: torch.Tensor, padding: Sequence[int]) -> torch.Tensor:
    """Pad pictures with one number.

    Args:
        x: the pictures.
        value: the number.
        padding: how many to add on each side: left, right, top, bottom.

    Shape:
        - ``x``: :math:`(*, H, W)`, ``value``: :math:`(1)`.
        - Output: :math:`(*, H', W')`.

    Example:
        >>> learnt_padding(torch.ones(1, 1), torch.tensor([5.0]), (1, 0, 0, 1))
        tensor([[5., 1.],
                [5., 5.]])
    """
    if wants_plain_operations((x, value)):
        return plain_padding(x, value, padding)
    padded: torch.Tensor = _LearntPadding.apply(x, value, tuple(padding))  # type: ignore[no-untyped-call]
    return padded


def plain_padding(x: torch.Tensor, value: torch.Tensor, padding: Sequence[int]) -> torch.Tensor:
    """Give what :func:`learnt_padding` does, in operations that can be differentiated and transformed."""
    border = F.pad(x.new_zeros(x.shape[-2:]), list(padding), value=1.0)
    return F.pad(x, list(padding)) + value * border


class _LearntPadding(Function):
    """Writes the number and the pictures, and sums nothing but the border's gradient."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, value: torch.Tensor, padding: tuple[int, ...]) -> torch.Tensor:
        left, right, top, bottom = padding
        height, width = x.shape[-2:]
        padded = x.new_empty(*x.shape[:-2], top + height + bottom, left + width + right)
        padded.copy_(value)
        padded[..., top : top + height, left : left + width] = x
        ctx.save_for_backward(x, value)
        ctx.padding = padding
        return padded

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[torch.Tensor | None, ...]:
        if wants_recomputation(grads):
            found = recomputed(partial(plain_padding, padding=ctx.padding), ctx.saved_tensors, grads)
            return *found, None
        left, right, top, bottom = ctx.padding
        grad = grads[0]
        inner = grad[..., top : grad.shape[-2] - bottom, :]
        strips = (
            grad[..., :top, :],
            grad[..., grad.shape[-2] - bottom :, :],
            inner[..., :left],
            inner[..., grad.shape[-1] - right :],
        )
        by_value = torch.stack([strip.sum() for strip in strips]).sum(0, keepdim=True)
        return inner[..., left : grad.shape[-1] - right], by_value, None

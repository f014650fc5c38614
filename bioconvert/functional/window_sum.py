"""Sums over sliding windows, one dimension after the other, and the same read backwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd import Function
from torch.nn import functional as F

from bioconvert.functional.eager import wants_plain_operations


@dataclass(frozen=True)
class Window:
    """A window along one dimension.

    Args:
        size: number of taps.
        stride: step from one window to the next.
        before: zeros put in front.
        after: zeros put behind.
        dilation: step from one tap to the next.
    """

    size: int
    stride: int
    before: int
    after: int
    dilation: int


Windows = tuple[Window, ...]


def window_sum(x: torch.Tensor, windows: Windows) -> torch.Tensor:
    r"""Sum over every window of the last dimensions; each dimension is a sum of its own.

    .. math::
        y_i = \sum_{k=0}^{\text{size} - 1} x_{i \cdot \text{stride} + k \cdot \text{dilation} - \text{before}}

    Args:
        x: the tensor :math:`x`.
        windows: one for each of the last :math:`n` dimensions.

    Shape:
        - ``x``: :math:`(*, L_1, \dots, L_n)`.
        - Output: :math:`(*, M_1, \dots, M_n)`, the shape that a convolution with these windows gives.
    """
    if wants_plain_operations():
        return _gathered(x, windows)
    summed: torch.Tensor = _WindowSum.apply(x, windows)  # type: ignore[no-untyped-call]
    return summed


def paddings(windows: Windows) -> list[int]:
    """Give the windows' paddings in the order of :func:`torch.nn.functional.pad`."""
    return [pad for window in reversed(windows) for pad in (window.before, window.after)]


class _WindowSum(Function):
    """A linear map: its derivative is itself, its transpose is :class:`_WindowSpread`."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, windows: Windows) -> torch.Tensor:
        ctx.windows, ctx.lengths = windows, x.shape[x.dim() - len(windows) :]
        return _gathered(x, windows)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _WindowSpread.apply(grads[0], ctx.windows, ctx.lengths), None  # type: ignore[no-untyped-call]

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> torch.Tensor:
        return _gathered(tangents[0], ctx.windows)


class _WindowSpread(Function):
    """Adds each window's value to all elements that the window covers."""

    @staticmethod
    def forward(ctx: Any, y: torch.Tensor, windows: Windows, lengths: torch.Size) -> torch.Tensor:
        ctx.windows, ctx.lengths = windows, lengths
        return _scattered(y, windows, lengths)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return window_sum(grads[0], ctx.windows), None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> torch.Tensor:
        return _scattered(tangents[0], ctx.windows, ctx.lengths)


def _gathered(x: torch.Tensor, windows: Windows) -> torch.Tensor:
    x = F.pad(x, paddings(windows))
    for dim, window in enumerate(windows, start=x.dim() - len(windows)):
        count = (x.shape[dim] - window.dilation * (window.size - 1) - 1) // window.stride + 1
        taps = [_tap(x, dim, window, tap, count) for tap in range(window.size)]
        x = taps[0] + taps[1] if len(taps) > 1 else taps[0]
        for tap in taps[2:]:
            x += tap
    return x


def _scattered(y: torch.Tensor, windows: Windows, lengths: torch.Size) -> torch.Tensor:
    for dim, window in enumerate(windows, start=y.dim() - len(windows)):
        length = lengths[dim - y.dim()] + window.before + window.after
        spread = y.new_zeros((*y.shape[:dim], length, *y.shape[dim + 1 :]))
        for tap in range(window.size):
            _tap(spread, dim, window, tap, y.shape[dim]).add_(y)
        y = spread.narrow(dim, window.before, length - window.before - window.after)
    return y


def _tap(x: torch.Tensor, dim: int, window: Window, tap: int, count: int) -> torch.Tensor:
    """Give the elements that one tap of the window meets in its ``count`` places."""
    start = tap * window.dilation
    part = slice(start, start + window.stride * (count - 1) + 1, window.stride)
    return x[(slice(None),) * dim + (part,)]

"""Sums over sliding windows, one dimension after the other, and the same read backwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd import Function

from bioconvert.functional.eager import is_recorded


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

    def places(self, length: int) -> int:
        """Give the number of windows in ``length`` elements."""
        return (length + self.before + self.after - self.dilation * (self.size - 1) - 1) // self.stride + 1


Windows = tuple[Window, ...]


def window_sum(x: torch.Tensor, windows: Windows) -> torch.Tensor:
    r"""Sum over every window of the last dimensions, each of which is one separate sum.

    .. math::
        y_{i} = \sum_{k} x_{i \cdot \text{stride} + k \cdot \text{dilation} - \text{before}}

    Args:
        x: :math:`(*, L_1, \dots, L_n)`.
        windows: one for each of the last :math:`n` dimensions.

    Shape:
        - Output: :math:`(*, M_1, \dots, M_n)`, where :math:`M` is :meth:`Window.places` of :math:`L`.
    """
    if is_recorded():
        return _gathered(x, windows)
    summed: torch.Tensor = _WindowSum.apply(x, windows)  # type: ignore[no-untyped-call]
    return summed


class _WindowSum(Function):
    """A linear map: its derivative is itself, its transpose is :class:`_WindowSpread`."""

    @staticmethod
    def forward(x: torch.Tensor, windows: Windows) -> torch.Tensor:
        return _gathered(x, windows)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor, Windows], output: torch.Tensor) -> None:
        x, ctx.windows = inputs
        ctx.lengths = x.shape[x.dim() - len(ctx.windows) :]

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _WindowSpread.apply(grads[0], ctx.windows, ctx.lengths), None  # type: ignore[no-untyped-call]

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> torch.Tensor:
        return window_sum(tangents[0], ctx.windows)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int, None], x: torch.Tensor, windows: Windows) -> tuple[torch.Tensor, int]:
        return window_sum(x.movedim(in_dims[0], 0), windows), 0


class _WindowSpread(Function):
    """Adds each window's value back to the elements that the window covers."""

    @staticmethod
    def forward(y: torch.Tensor, windows: Windows, lengths: torch.Size) -> torch.Tensor:
        return _scattered(y, windows, lengths)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor, Windows, torch.Size], output: torch.Tensor) -> None:
        _, ctx.windows, ctx.lengths = inputs

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return window_sum(grads[0], ctx.windows), None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> torch.Tensor:
        spread: torch.Tensor = _WindowSpread.apply(tangents[0], ctx.windows, ctx.lengths)  # type: ignore[no-untyped-call]
        return spread

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int, None, None], y: torch.Tensor, windows: Windows, lengths: torch.Size
    ) -> tuple[torch.Tensor, int]:
        return _WindowSpread.apply(y.movedim(in_dims[0], 0), windows, lengths), 0  # type: ignore[no-untyped-call]


def _gathered(x: torch.Tensor, windows: Windows) -> torch.Tensor:
    x = torch.nn.functional.pad(x, [pad for w in reversed(windows) for pad in (w.before, w.after)])
    for dim, window in enumerate(windows, start=x.dim() - len(windows)):
        if window.size == 1 and window.stride == 1:
            continue
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

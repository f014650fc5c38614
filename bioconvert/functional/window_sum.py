"""Sums over sliding windows, one dimension after the other, and their transpose."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn import functional as F


class Window(NamedTuple):
    """A window along one dimension.

    Args:
        size: number of taps.
        stride: step from one window to the next.
        before: zeros put in front.
        after: zeros put behind; below 0, elements taken away.
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
    if any(paddings(windows)):
        x = F.pad(x, paddings(windows))
    for dim, window in enumerate(windows, start=x.dim() - len(windows)):
        count = (x.shape[dim] - window.dilation * (window.size - 1) - 1) // window.stride + 1
        taps = [_tap(x, dim, window, tap, count) for tap in range(window.size)]
        x = taps[0] + taps[1] if len(taps) > 1 else taps[0]
        for tap in taps[2:]:
            x += tap
    return x


def window_spread(y: torch.Tensor, windows: Windows, lengths: torch.Size | None = None) -> torch.Tensor:
    """Add each window's value to all elements of the window: the transpose of :func:`window_sum`.

    Args:
        y: one value for each window.
        windows: as in :func:`window_sum`.
        lengths: the sizes :math:`L_1, \\dots, L_n` of what the windows were over; ``None`` where the last
            window ends with the last element.
    """
    if lengths is not None and all(window.stride == 1 for window in windows):
        return window_sum(y, tuple(map(_mirrored, windows, y.shape[-len(windows) :], lengths)))
    for dim, window in enumerate(windows, start=y.dim() - len(windows)):
        count = y.shape[dim]
        if lengths is None:
            room = window.stride * (count - 1) + window.dilation * (window.size - 1) + 1
        else:
            room = window.before + lengths[dim - y.dim()] + window.after
        spread = y.new_zeros((*y.shape[:dim], room, *y.shape[dim + 1 :]))
        for tap in range(window.size):
            _tap(spread, dim, window, tap, count).add_(y)
        y = _without_padding(spread, dim, window)
    return y


def _mirrored(window: Window, count: int, length: int) -> Window:
    """Give the window by whose sums ``count`` values of a window with stride 1 are spread over ``length``."""
    reach = window.dilation * (window.size - 1)
    before = reach - window.before
    return window._replace(before=before, after=length + reach - count - before)


def _without_padding(x: torch.Tensor, dim: int, window: Window) -> torch.Tensor:
    if window.after >= 0:
        return x.narrow(dim, window.before, x.shape[dim] - window.before - window.after)
    return F.pad(x, [0, 0] * (x.dim() - dim - 1) + [-window.before, -window.after])


def paddings(windows: Windows) -> list[int]:
    """Give the windows' paddings in the order of :func:`torch.nn.functional.pad`."""
    return [pad for window in reversed(windows) for pad in (window.before, window.after)]


def _tap(x: torch.Tensor, dim: int, window: Window, tap: int, count: int) -> torch.Tensor:
    """Give the elements that one tap of the window meets in its ``count`` places."""
    start = tap * window.dilation
    if window.stride == 1:
        return x.narrow(dim, start, count)
    part = slice(start, start + window.stride * (count - 1) + 1, window.stride)
    return x[(slice(None),) * dim + (part,)]

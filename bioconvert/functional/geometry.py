"""The geometry of a convolution, whichever way its arguments are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from bioconvert.functional.window_sum import Window, Windows, paddings

Size = int | Sequence[int]
Padding = Size | str


@dataclass(frozen=True)
class Geometry:
    """How a convolution's kernel moves.

    Args:
        windows: the kernel's window along each dimension.
        groups: number of groups of channels.
    """

    windows: Windows
    groups: int

    def convolve(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Convolve without a bias."""
        uneven = any(window.before != window.after for window in self.windows)
        if uneven:
            x = F.pad(x, paddings(self.windows))
        convolution = (F.conv1d, F.conv2d, F.conv3d)[len(self.windows) - 1]
        return convolution(
            x,
            weight,
            stride=tuple(window.stride for window in self.windows),
            padding=tuple(0 if uneven else window.before for window in self.windows),
            dilation=tuple(window.dilation for window in self.windows),
            groups=self.groups,
        )


def windows_of(kernel: Sequence[int], stride: Size, padding: Padding, dilation: Size) -> Windows:
    """Give a kernel's window along each dimension.

    Raises:
        ValueError: ``padding`` is a string other than ``"same"`` and ``"valid"``.
    """
    dims = len(kernel)
    steps, gaps = _each(stride, dims), _each(dilation, dims)
    pads = _paddings(kernel, padding, gaps)
    return tuple(
        Window(size, step, before, after, gap)
        for size, step, (before, after), gap in zip(kernel, steps, pads, gaps, strict=True)
    )


def _paddings(kernel: Sequence[int], padding: Padding, dilation: Sequence[int]) -> list[tuple[int, int]]:
    if padding == "valid":
        return [(0, 0) for _ in kernel]
    if padding == "same":
        spare = [gap * (size - 1) for size, gap in zip(kernel, dilation, strict=True)]
        return [(total // 2, total - total // 2) for total in spare]
    if isinstance(padding, str):
        raise ValueError(f"padding must be a number, a tuple, 'same' or 'valid', got {padding!r}")
    return [(size, size) for size in _each(padding, len(kernel))]


def _each(size: Size, dims: int) -> Sequence[int]:
    if isinstance(size, int):
        return (size,) * dims
    return tuple(size) * dims if len(size) == 1 else size

"""The linear maps that a Yat product is put upon: a matrix, or a kernel that moves over space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.nn import functional as F

from bioconvert.functional.linear_map import SquaredSum
from bioconvert.functional.window_sum import Window, Windows, paddings, window_spread, window_sum

Size = int | Sequence[int]
Padding = Size | str


class Geometry(NamedTuple):
    """How a kernel moves; without windows it doesn't, and is the matrix of a linear layer.

    Args:
        windows: the kernel's window along each dimension of space.
        groups: number of groups of channels.
    """

    windows: Windows = ()
    groups: int = 1

    @property
    def _uneven(self) -> bool:
        return any(window.before != window.after for window in self.windows)

    def score(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Give the dot products of inputs (or patches) and weights, channels in dimension 1."""
        if not self.windows:
            return F.linear(x, weight)
        convolve = (F.conv1d, F.conv2d, F.conv3d)[len(self.windows) - 1]
        stride, padding, dilation = self._arguments()
        score: torch.Tensor = convolve(self._padded(x), weight, None, stride, padding, dilation, self.groups)
        return score

    def pull_back(
        self, grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, needed: Sequence[bool]
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Give the gradients of ``x`` and ``weight``, where needed, for one of the scores."""
        if not self.windows:
            return grad @ weight if needed[0] else None, grad.t() @ x if needed[1] else None
        stride, padding, dilation = self._arguments()
        by_x, by_weight, _ = torch.ops.aten.convolution_backward(
            grad,
            self._padded(x),
            weight,
            None,
            stride,
            padding,
            dilation,
            False,
            [0] * len(self.windows),
            self.groups,
            [*needed, False],
        )
        if by_x is not None and self._uneven:
            by_x = F.pad(by_x, [-pad for pad in paddings(self.windows)])
        return by_x, by_weight

    def input_norm(self, squares: torch.Tensor) -> torch.Tensor:
        """Sum the points' squared norms over each patch."""
        return window_sum(squares, self.windows)

    def pull_back_input_norm(self, grad: torch.Tensor, lengths: torch.Size) -> torch.Tensor:
        """Give the gradient of the points' squared norms, ``lengths`` of them in space."""
        return window_spread(grad, self.windows, lengths)

    def weight_norm(self, weight: torch.Tensor, lengths: torch.Size, squared_sum: SquaredSum) -> torch.Tensor:
        """Give the squared norm of each unit's weight, the same for inputs of any ``lengths``."""
        del lengths
        return squared_sum(weight.flatten(1), 1).view(1, -1, *[1] * len(self.windows))

    def add_weight_norm_gradient(
        self, by_weight: torch.Tensor, grad: torch.Tensor, weight: torch.Tensor, lengths: torch.Size
    ) -> None:
        """Add to the weight's gradient what comes to it through its squared norm."""
        del lengths
        by_weight.addcmul_(weight, grad.view(-1, *[1] * (weight.dim() - 1)), value=2)

    def _padded(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(x, paddings(self.windows)) if self._uneven else x

    def _arguments(self) -> tuple[list[int], list[int], list[int]]:
        return (
            [window.stride for window in self.windows],
            [0 if self._uneven else window.before for window in self.windows],
            [window.dilation for window in self.windows],
        )


def convolution(
    kernel: Sequence[int], stride: Size, padding: Padding, dilation: Size, groups: int
) -> Geometry:
    """Give the geometry that the arguments of a convolution describe.

    Raises:
        ValueError: ``padding`` is a string other than ``"same"`` and ``"valid"``.
    """
    steps, gaps = for_each(stride, len(kernel)), for_each(dilation, len(kernel))
    pads = _paddings(kernel, padding, gaps)
    sizes = zip(kernel, steps, pads, gaps, strict=True)
    return Geometry(tuple(Window(size, step, *pad, gap) for size, step, pad, gap in sizes), groups)


def _paddings(kernel: Sequence[int], padding: Padding, dilation: Sequence[int]) -> list[tuple[int, int]]:
    if padding == "valid":
        return [(0, 0) for _ in kernel]
    if padding == "same":
        totals = [gap * (size - 1) for size, gap in zip(kernel, dilation, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    if isinstance(padding, str):
        raise ValueError(f"padding must be a number, a tuple, 'same' or 'valid', got {padding!r}")
    return [(size, size) for size in for_each(padding, len(kernel))]


def for_each(size: Size, dims: int) -> Sequence[int]:
    """Give a size for each dimension of space, where one number stands for all."""
    if isinstance(size, int):
        return (size,) * dims
    return tuple(size) * dims if len(size) == 1 else size

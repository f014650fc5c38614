"""The linear map of a transposed convolution: a kernel that is laid down at every point of the input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch.nn import functional as F

from bioconvert.functional.geometry import Size, for_each
from bioconvert.functional.linear_map import SquaredSum
from bioconvert.functional.window_sum import Window, Windows, window_spread, window_sum

Taps = Literal["contributing", "kernel"]


class Transposed(NamedTuple):
    """How a kernel is laid down.

    Args:
        windows: those of the convolution, from output to input, that this map is the transpose of.
        groups: number of groups of channels.
        taps: whose squares make the weight's squared norm: the taps that reach an output, or all of the
            kernel.
    """

    windows: Windows
    groups: int
    taps: Taps

    def score(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Give the dot products of what reaches an output and the weights by which it does."""
        convolve = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[len(self.windows) - 1]
        stride, padding, dilation, output_padding = self._arguments()
        score: torch.Tensor = convolve(
            x, weight, None, stride, padding, output_padding, self.groups, dilation
        )
        return score

    def pull_back(
        self, grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, needed: Sequence[bool]
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Give the gradients of ``x`` and ``weight``, where needed, for one of the scores."""
        stride, padding, dilation, output_padding = self._arguments()
        by_x, by_weight, _ = torch.ops.aten.convolution_backward(
            grad,
            x,
            weight,
            None,
            stride,
            padding,
            dilation,
            True,
            output_padding,
            self.groups,
            [*needed, False],
        )
        return by_x, by_weight

    def input_norm(self, squares: torch.Tensor) -> torch.Tensor:
        """Sum the squared norms of the points that reach each output, once for each tap by which they do."""
        return window_spread(squares, self.windows)

    def pull_back_input_norm(self, grad: torch.Tensor, lengths: torch.Size) -> torch.Tensor:
        """Give the gradient of the points' squared norms."""
        del lengths
        return window_sum(grad, self.windows)

    def weight_norm(self, weight: torch.Tensor, lengths: torch.Size, squared_sum: SquaredSum) -> torch.Tensor:
        """Give the squared norm of the taps that reach each output, or of each channel's whole kernel."""
        squares = squared_sum(self._grouped(weight), 1).squeeze(1)
        if self.taps == "kernel":
            return squares.flatten(2).sum(2).view(1, -1, *[1] * len(self.windows))
        return self.score(weight.new_ones(1, self.groups, *lengths), squares)

    def add_weight_norm_gradient(
        self, by_weight: torch.Tensor, grad: torch.Tensor, weight: torch.Tensor, lengths: torch.Size
    ) -> None:
        """Add to the weight's gradient what comes to it through its squared norms."""
        if self.taps == "kernel":
            by_squares = grad.view(self.groups, -1, *[1] * len(self.windows))
        else:
            ones = weight.new_ones(1, self.groups, *lengths)
            squares = weight.new_empty(self.groups, *weight.shape[1:])
            _, found = self.pull_back(grad, ones, squares, (False, True))
            assert found is not None
            by_squares = found
        self._grouped(by_weight).addcmul_(self._grouped(weight), by_squares.unsqueeze(1), value=2)

    def _grouped(self, weight: torch.Tensor) -> torch.Tensor:
        """Give the weight as groups × their inputs × their outputs × space."""
        return weight.unflatten(0, (self.groups, -1))  # type: ignore[no-untyped-call, no-any-return]

    def _arguments(self) -> tuple[list[int], list[int], list[int], list[int]]:
        return (
            [window.stride for window in self.windows],
            [window.before for window in self.windows],
            [window.dilation for window in self.windows],
            [window.before - window.after for window in self.windows],
        )


def transposed_convolution(
    kernel: Sequence[int],
    stride: Size,
    padding: Size,
    output_padding: Size,
    dilation: Size,
    groups: int,
    taps: Taps,
) -> Transposed:
    """Give the map that the arguments of a transposed convolution describe.

    Raises:
        ValueError: an unknown word for ``taps``.
    """
    if taps not in get_args(Taps):
        raise ValueError(f"taps must be 'contributing' or 'kernel', got {taps!r}")
    given = (for_each(each, len(kernel)) for each in (stride, padding, output_padding, dilation))
    windows = tuple(
        Window(size, step, pad, pad - more, gap)
        for size, step, pad, more, gap in zip(kernel, *given, strict=True)
    )
    return Transposed(windows, groups, taps)

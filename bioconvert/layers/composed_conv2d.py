"""What the convolutions with composed kernels have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import fx, nn
from torch.nn import functional as F

from bioconvert.functional.dynamic_conv import dynamic_conv2d
from bioconvert.functional.dynamic_conv_transpose import dynamic_conv_transpose2d
from bioconvert.functional.kernel_folding import folded_shape, kernels_from
from bioconvert.functional.learnt_padding import learnt_padding

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]
Size = int | Sequence[int]

# Leaves in a user's own symbolic_trace: what is inside looks at sizes, which a trace doesn't know.
fx.wrap("dynamic_conv2d")
fx.wrap("dynamic_conv_transpose2d")
fx.wrap("kernels_from")
fx.wrap("learnt_padding")

_PADDING_DEVIATION = 1e-3
"""Standard deviation that the padding value starts with."""


class ComposedConv2d(nn.Module):
    """A convolution whose kernels are cut out of composed matrices; the matrices are the subclass's affair.

    Args:
        in_channels: number of input channels.
        out_channels: number of output channels.
        kernel_size: the kernel's sides.
        stride: as for :class:`torch.nn.Conv2d`.
        padding: one number, one for each dimension, or one for each side in the order of
            :func:`torch.nn.functional.pad`: left, right, top, bottom.
        dilation: as for :class:`torch.nn.Conv2d`.
        groups: likewise.
        padding_mode: likewise.
        padding_dynamic: whether the number that stands in the padding is learnt.
        transpose: whether the convolution is transposed; its padding cuts the output.
        output_padding: as for :class:`torch.nn.ConvTranspose2d`.
        device: where the tensors are.
        dtype: their type.
    """

    padding_dynamic_value: nn.Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size,
        padding: Size,
        dilation: Size,
        groups: int,
        padding_mode: PaddingMode,
        padding_dynamic: bool,
        transpose: bool,
        output_padding: Size,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ):
        _check(in_channels, out_channels, groups, padding_mode, transpose)
        super().__init__()
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride = _pair("kernel_size", kernel_size), _pair("stride", stride)
        self.dilation = _pair("dilation", dilation)
        self.output_padding = _pair("output_padding", output_padding, least=0)
        if not transpose and any(self.output_padding):
            raise ValueError(f"output_padding needs transpose=True, got {output_padding!r}")
        self.padding, self.padding_mode, self.transpose = _sides(padding), padding_mode, transpose
        learnt = padding_dynamic and padding_mode == "zeros" and not transpose and any(self.padding)
        value = torch.empty(1, device=device, dtype=dtype).normal_(0, _PADDING_DEVIATION) if learnt else None
        self.register_parameter("padding_dynamic_value", None if value is None else nn.Parameter(value))

    @property
    def kernel_shape(self) -> tuple[int, int, int, int]:
        """The shape of the weight that a plain convolution of these sizes would have."""
        outer, inner = self.out_channels, self.in_channels
        if self.transpose:
            outer, inner = inner, outer
        height, width = self.kernel_size
        return outer, inner // self.groups, height, width

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """The sides of the matrix that the kernels are cut out of."""
        return folded_shape(self.kernel_shape)

    def extra_repr(self) -> str:
        """Show the sizes."""
        shown = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        names = ("stride", "padding", "dilation", "groups", "padding_mode", "transpose", "output_padding")
        return ", ".join([shown, *(f"{name}={getattr(self, name)!r}" for name in names)])

    def _convolve(self, x: torch.Tensor, matrices: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        kernels = kernels_from(matrices, self.kernel_shape)
        bias = None if bias is None else bias.to(x.dtype)
        if self.transpose:
            return self._spread(x, kernels, bias)
        left, right, top, bottom = self.padding
        plain = self.padding_dynamic_value is None and self.padding_mode == "zeros"
        if plain and left == right and top == bottom:
            return dynamic_conv2d(x, kernels, bias, self.stride, (top, left), self.dilation, self.groups)
        return dynamic_conv2d(self._padded(x), kernels, bias, self.stride, 0, self.dilation, self.groups)

    def _padded(self, x: torch.Tensor) -> torch.Tensor:
        if self.padding_mode != "zeros":
            return F.pad(x, self.padding, mode=self.padding_mode)
        if self.padding_dynamic_value is None:
            return F.pad(x, self.padding)
        return learnt_padding(x, self.padding_dynamic_value.to(x.dtype), self.padding)

    def _spread(self, x: torch.Tensor, kernels: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        left, right, top, bottom = self.padding
        if left == right and top == bottom:
            padding, cut = (top, left), None
        else:
            padding, cut = (0, 0), [-side for side in self.padding]
        y = dynamic_conv_transpose2d(
            x, kernels, bias, self.stride, padding, self.output_padding, self.groups, self.dilation
        )
        return y if cut is None else F.pad(y, cut)


def _check(
    in_channels: int, out_channels: int, groups: int, padding_mode: PaddingMode, transpose: bool
) -> None:
    if min(in_channels, out_channels, groups) < 1:
        sizes = f"{in_channels}, {out_channels} and {groups}"
        raise ValueError(f"channels and groups must be positive, got {sizes}")
    if in_channels % groups or out_channels % groups:
        channels = f"{in_channels} and {out_channels}"
        raise ValueError(f"groups must divide the channels, got {groups} for {channels}")
    if padding_mode not in get_args(PaddingMode):
        raise ValueError(f"padding_mode must be one of {get_args(PaddingMode)}, got {padding_mode!r}")
    if transpose and padding_mode != "zeros":
        raise ValueError(f"a transposed convolution has only padding_mode='zeros', got {padding_mode!r}")


def _pair(name: str, size: Size, *, least: int = 1) -> tuple[int, int]:
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or min(pair) < least:
        raise ValueError(f"{name} must be one or two numbers of at least {least}, got {size!r}")
    return pair


def _sides(padding: Size) -> tuple[int, int, int, int]:
    given = (padding, padding) if isinstance(padding, int) else tuple(padding)
    if len(given) == 2:
        given = (given[1], given[1], given[0], given[0])
    if len(given) != 4 or min(given) < 0:
        raise ValueError(f"padding must be one, two or four non-negative numbers, got {padding!r}")
    return given

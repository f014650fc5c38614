"""Transposed convolutions whose kernels are made out of a context, in one, two and three dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from typing_extensions import Unpack

from bioconvert.core.registry import layer
from bioconvert.functional.sample_convolution import Convolution
from bioconvert.layers.dynamic_core import DynamicLayer
from bioconvert.layers.dynamic_options import DynamicOptions, set_up


class DynamicConvTranspose(DynamicLayer):
    """What the transposed dynamic convolutions share, whatever their number of dimensions."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] = 0,
        output_padding: int | tuple[int, ...] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | tuple[int, ...] = 1,
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **options: Unpack[DynamicOptions],
    ):
        if in_channels < 1 or out_channels < 1:
            raise ValueError(f"numbers of channels must be positive, got {in_channels} → {out_channels}")
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            output_padding=output_padding,
            groups=groups,
            bias=bias,
            dilation=dilation,
            padding_mode=padding_mode,
            device=device,
            dtype=dtype,
        )
        set_up(self, out_channels, in_channels, **options)

    @property
    def _sizes(self) -> tuple[int, int]:
        own: Any = self
        return own.out_channels, own.in_channels

    def _convolved(
        self, input: torch.Tensor, output_size: Sequence[int] | None, context: torch.Tensor | None
    ) -> torch.Tensor:
        """Spread an input to the size asked for."""
        own: Any = self
        sizes = own.stride, own.padding, own.kernel_size
        output_padding = own._output_padding(input, output_size, *sizes, len(own.kernel_size), own.dilation)
        how = Convolution(own.stride, own.padding, own.dilation, own.groups, True, tuple(output_padding))
        return self._product(how, input, context)


@layer
class DynamicConvTranspose1d(DynamicConvTranspose, nn.ConvTranspose1d):
    r"""Spreads each signal of a batch by a kernel that is made out of its context.

    .. math::
        y_n = (W + g \odot \Delta(c_n)) *^\top x_n + b

    While the gate :math:`g` is zero the layer does what the transposed convolution with :math:`W` does.

    Args:
        *args: as for :class:`torch.nn.ConvTranspose1d`, for the kernel :math:`W` and the bias :math:`b`.
        **kwargs: likewise, and the options of :class:`DynamicLinear`, which say how :math:`\Delta` is made.

    Shape:
        - Input: :math:`(N, C, L)` or :math:`(C, L)`.
        - Context :math:`c`: :math:`(M, L)` with :math:`M` a divisor of :math:`N`; see :class:`DynamicLinear`.
        - Output: :math:`(N, K, L')` or :math:`(K, L')`, as for :class:`torch.nn.ConvTranspose1d`.

    Reference:
        Yang et al., *CondConv: Conditionally Parameterized Convolutions for Efficient Inference*,
        https://arxiv.org/abs/1904.04971

    Example:
        >>> DynamicConvTranspose1d(4, 6, 2, stride=2)(torch.zeros(1, 4, 4)).shape
        torch.Size([1, 6, 8])
    """

    def forward(
        self,
        input: torch.Tensor,
        output_size: Sequence[int] | None = None,
        context: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Spread ``input``; ``output_size`` chooses among the sizes that the stride allows."""
        return self._convolved(input, output_size, context)


@layer
class DynamicConvTranspose2d(DynamicConvTranspose, nn.ConvTranspose2d):
    r"""Spreads each picture of a batch by a kernel that is made out of its context.

    .. math::
        y_n = (W + g \odot \Delta(c_n)) *^\top x_n + b

    While the gate :math:`g` is zero the layer does what the transposed convolution with :math:`W` does.

    Args:
        *args: as for :class:`torch.nn.ConvTranspose2d`, for the kernel :math:`W` and the bias :math:`b`.
        **kwargs: likewise, and the options of :class:`DynamicLinear`, which say how :math:`\Delta` is made.

    Shape:
        - Input: :math:`(N, C, H, W)` or :math:`(C, H, W)`.
        - Context :math:`c`: :math:`(M, L)` with :math:`M` a divisor of :math:`N`; see :class:`DynamicLinear`.
        - Output: :math:`(N, K, H', W')` or :math:`(K, H', W')`, as for :class:`torch.nn.ConvTranspose2d`.

    Reference:
        Yang et al., *CondConv: Conditionally Parameterized Convolutions for Efficient Inference*,
        https://arxiv.org/abs/1904.04971

    Example:
        >>> DynamicConvTranspose2d(4, 6, 2, stride=2)(torch.zeros(1, 4, 4, 4)).shape
        torch.Size([1, 6, 8, 8])
    """

    def forward(
        self,
        input: torch.Tensor,
        output_size: Sequence[int] | None = None,
        context: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Spread ``input``; ``output_size`` chooses among the sizes that the stride allows."""
        return self._convolved(input, output_size, context)


@layer
class DynamicConvTranspose3d(DynamicConvTranspose, nn.ConvTranspose3d):
    r"""Spreads each volume of a batch by a kernel that is made out of its context.

    .. math::
        y_n = (W + g \odot \Delta(c_n)) *^\top x_n + b

    While the gate :math:`g` is zero the layer does what the transposed convolution with :math:`W` does.

    Args:
        *args: as for :class:`torch.nn.ConvTranspose3d`, for the kernel :math:`W` and the bias :math:`b`.
        **kwargs: likewise, and the options of :class:`DynamicLinear`, which say how :math:`\Delta` is made.

    Shape:
        - Input: :math:`(N, C, D, H, W)` or :math:`(C, D, H, W)`.
        - Context :math:`c`: :math:`(M, L)` with :math:`M` a divisor of :math:`N`; see :class:`DynamicLinear`.
        - Output: :math:`(N, K, D', H', W')` or :math:`(K, D', H', W')`,
          as for :class:`torch.nn.ConvTranspose3d`.

    Reference:
        Yang et al., *CondConv: Conditionally Parameterized Convolutions for Efficient Inference*,
        https://arxiv.org/abs/1904.04971

    Example:
        >>> DynamicConvTranspose3d(4, 6, 2, stride=2)(torch.zeros(1, 4, 2, 2, 2)).shape
        torch.Size([1, 6, 4, 4, 4])
    """

    def forward(
        self,
        input: torch.Tensor,
        output_size: Sequence[int] | None = None,
        context: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Spread ``input``; ``output_size`` chooses among the sizes that the stride allows."""
        return self._convolved(input, output_size, context)

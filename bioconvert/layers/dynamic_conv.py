"""Convolutions whose kernels are made out of a context: ``nn.Conv1d``, ``nn.Conv2d`` and ``nn.Conv3d``."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from typing_extensions import Unpack

from bioconvert.core.registry import layer
from bioconvert.functional.sample_convolution import Convolution
from bioconvert.layers.dynamic_core import DynamicLayer
from bioconvert.layers.dynamic_options import DynamicOptions, set_up


class DynamicConv(DynamicLayer):
    """What the dynamic convolutions share, whatever their number of dimensions."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] | str = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        bias: bool = True,
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
            dilation=dilation,
            groups=groups,
            bias=bias,
            padding_mode=padding_mode,
            device=device,
            dtype=dtype,
        )
        set_up(self, out_channels, in_channels, **options)

    @property
    def _sizes(self) -> tuple[int, int]:
        own: Any = self
        return own.out_channels, own.in_channels

    def _convolved(self, input: torch.Tensor, context: torch.Tensor | None) -> torch.Tensor:
        """Convolve an input, padded first where zeros won't do."""
        own: Any = self
        if own.padding_mode == "zeros":
            how = Convolution(own.stride, own.padding, own.dilation, own.groups)
            return self._product(how, input, context)
        padded = F.pad(input, own._reversed_padding_repeated_twice, mode=own.padding_mode)
        how = Convolution(own.stride, 0, own.dilation, own.groups)
        return self._product(how, padded, context, source=input)


@layer
class DynamicConv1d(DynamicConv, nn.Conv1d):
    r"""Convolves each signal of a batch with a kernel that is made out of its context.

    .. math::
        y_n = (W + g \odot \Delta(c_n)) * x_n + b

    While the gate :math:`g` is zero the layer does what the convolution with :math:`W` does.

    Args:
        *args: as for :class:`torch.nn.Conv1d`, for the kernel :math:`W` and the bias :math:`b`.
        **kwargs: likewise, and the options of :class:`DynamicLinear`, which say how :math:`\Delta` is made.

    Shape:
        - Input: :math:`(N, C, L)` or :math:`(C, L)`.
        - Context :math:`c`: :math:`(M, L)` with :math:`M` a divisor of :math:`N`; see :class:`DynamicLinear`.
        - Output: :math:`(N, K, L')` or :math:`(K, L')`, as for :class:`torch.nn.Conv1d`.

    Reference:
        Yang et al., *CondConv: Conditionally Parameterized Convolutions for Efficient Inference*,
        https://arxiv.org/abs/1904.04971

    Example:
        >>> DynamicConv1d(4, 6, 3, padding=1)(torch.zeros(2, 4, 9)).shape
        torch.Size([2, 6, 9])
    """

    def forward(self, input: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        """Convolve ``input`` with the kernels of ``context``, or of the layer's own."""
        return self._convolved(input, context)


@layer
class DynamicConv2d(DynamicConv, nn.Conv2d):
    r"""Convolves each picture of a batch with a kernel that is made out of its context.

    .. math::
        y_n = (W + g \odot \Delta(c_n)) * x_n + b

    While the gate :math:`g` is zero the layer does what the convolution with :math:`W` does.

    Args:
        *args: as for :class:`torch.nn.Conv2d`, for the kernel :math:`W` and the bias :math:`b`.
        **kwargs: likewise, and the options of :class:`DynamicLinear`, which say how :math:`\Delta` is made.

    Shape:
        - Input: :math:`(N, C, H, W)` or :math:`(C, H, W)`.
        - Context :math:`c`: :math:`(M, L)` with :math:`M` a divisor of :math:`N`; see :class:`DynamicLinear`.
        - Output: :math:`(N, K, H', W')` or :math:`(K, H', W')`, as for :class:`torch.nn.Conv2d`.

    Reference:
        Yang et al., *CondConv: Conditionally Parameterized Convolutions for Efficient Inference*,
        https://arxiv.org/abs/1904.04971

    Example:
        >>> DynamicConv2d(4, 6, 3, padding=1)(torch.zeros(2, 4, 8, 8)).shape
        torch.Size([2, 6, 8, 8])
    """

    def forward(self, input: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        """Convolve ``input`` with the kernels of ``context``, or of the layer's own."""
        return self._convolved(input, context)


@layer
class DynamicConv3d(DynamicConv, nn.Conv3d):
    r"""Convolves each volume of a batch with a kernel that is made out of its context.

    .. math::
        y_n = (W + g \odot \Delta(c_n)) * x_n + b

    While the gate :math:`g` is zero the layer does what the convolution with :math:`W` does.

    Args:
        *args: as for :class:`torch.nn.Conv3d`, for the kernel :math:`W` and the bias :math:`b`.
        **kwargs: likewise, and the options of :class:`DynamicLinear`, which say how :math:`\Delta` is made.

    Shape:
        - Input: :math:`(N, C, D, H, W)` or :math:`(C, D, H, W)`.
        - Context :math:`c`: :math:`(M, L)` with :math:`M` a divisor of :math:`N`; see :class:`DynamicLinear`.
        - Output: :math:`(N, K, D', H', W')` or :math:`(K, D', H', W')`, as for :class:`torch.nn.Conv3d`.

    Reference:
        Yang et al., *CondConv: Conditionally Parameterized Convolutions for Efficient Inference*,
        https://arxiv.org/abs/1904.04971

    Example:
        >>> DynamicConv3d(4, 6, 3, padding=1)(torch.zeros(1, 4, 5, 5, 5)).shape
        torch.Size([1, 6, 5, 5, 5])
    """

    def forward(self, input: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        """Convolve ``input`` with the kernels of ``context``, or of the layer's own."""
        return self._convolved(input, context)

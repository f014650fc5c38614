"""The Yat counterparts of ``nn.Conv1d``, ``nn.Conv2d`` and ``nn.Conv3d``."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F
from typing_extensions import Unpack

from bioconvert.core.registry import layer
from bioconvert.functional import yat_conv1d, yat_conv2d, yat_conv3d
from bioconvert.layers.yat_core import YatLayer
from bioconvert.layers.yat_options import YatOptions, set_up

# Leaves in a user's own symbolic_trace: what is inside looks at sizes, which a trace doesn't know.
fx.wrap("yat_conv1d")
fx.wrap("yat_conv2d")
fx.wrap("yat_conv3d")


class YatConv(YatLayer):
    """What the Yat convolutions share, whatever their number of dimensions."""

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
        **options: Unpack[YatOptions],
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
            bias=bias and options.get("constant_bias") is None,
            padding_mode=padding_mode,
            device=device,
            dtype=dtype,
        )
        set_up(self, out_channels, **options)

    def _arguments(self, input: torch.Tensor) -> dict[str, Any]:
        """Give the arguments of the functional counterpart, the input padded where zeros won't do."""
        own: Any = self
        padding = own.padding
        if own.padding_mode != "zeros":
            input = F.pad(input, own._reversed_padding_repeated_twice, mode=own.padding_mode)
            padding = 0
        return {
            "x": input,
            "weight": self._effective_weight(),
            "stride": own.stride,
            "padding": padding,
            "dilation": own.dilation,
            "groups": own.groups,
            **self._unit_arguments(),
        }

    @property
    def _units(self) -> int:
        units: int = self.out_channels  # type: ignore[assignment]
        return units

    @property
    def _unit_axis(self) -> int:
        return -1 - len(self.kernel_size)  # type: ignore[arg-type]


@layer
class YatConv1d(YatConv, nn.Conv1d):
    r"""Scores each patch of a signal by how well it aligns with, and how near it lies to, each kernel.

    .. math::
        y_k(p) = \alpha \, \frac{(w_k \cdot x_p + b_k)^2}{\lVert w_k - x_p \rVert^2 + \varepsilon} + o_k

    The layer is non-linear by itself: no activation follows it.

    Args:
        *args: as for :class:`torch.nn.Conv1d`; :math:`w_k` is a kernel, :math:`x_p` the padded patch of its
            group at :math:`p`.
        **kwargs: likewise, and the options of :class:`YatLinear`.

    Shape:
        - Input: :math:`(N, C, L)` or :math:`(C, L)`.
        - Output: :math:`(N, K, L')` or :math:`(K, L')`, as for :class:`torch.nn.Conv1d`.

    Reference:
        Bouhsine, *Deep Learning 2.0: Artificial Neurons that Matter*, https://arxiv.org/abs/2411.08085

    Example:
        >>> YatConv1d(4, 6, 3, padding=1)(torch.zeros(2, 4, 9)).shape
        torch.Size([2, 6, 9])
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Score the patches of ``input`` against each kernel."""
        return self._product(input)

    def _product(self, input: torch.Tensor, *, score: torch.Tensor | None = None) -> torch.Tensor:
        return yat_conv1d(**self._arguments(input), score=score)


@layer
class YatConv2d(YatConv, nn.Conv2d):
    r"""Scores each patch of a picture by how well it aligns with, and how near it lies to, each kernel.

    .. math::
        y_k(p) = \alpha \, \frac{(w_k \cdot x_p + b_k)^2}{\lVert w_k - x_p \rVert^2 + \varepsilon} + o_k

    The layer is non-linear by itself: no activation follows it.

    Args:
        *args: as for :class:`torch.nn.Conv2d`; :math:`w_k` is a kernel, :math:`x_p` the padded patch of its
            group at :math:`p`.
        **kwargs: likewise, and the options of :class:`YatLinear`.

    Shape:
        - Input: :math:`(N, C, H, W)` or :math:`(C, H, W)`.
        - Output: :math:`(N, K, H', W')` or :math:`(K, H', W')`, as for :class:`torch.nn.Conv2d`.

    Reference:
        Bouhsine, *Deep Learning 2.0: Artificial Neurons that Matter*, https://arxiv.org/abs/2411.08085

    Example:
        >>> YatConv2d(4, 6, 3, padding=1, groups=2)(torch.zeros(2, 4, 8, 8)).shape
        torch.Size([2, 6, 8, 8])
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Score the patches of ``input`` against each kernel."""
        return self._product(input)

    def _product(self, input: torch.Tensor, *, score: torch.Tensor | None = None) -> torch.Tensor:
        return yat_conv2d(**self._arguments(input), score=score)


@layer
class YatConv3d(YatConv, nn.Conv3d):
    r"""Scores each patch of a volume by how well it aligns with, and how near it lies to, each kernel.

    .. math::
        y_k(p) = \alpha \, \frac{(w_k \cdot x_p + b_k)^2}{\lVert w_k - x_p \rVert^2 + \varepsilon} + o_k

    The layer is non-linear by itself: no activation follows it.

    Args:
        *args: as for :class:`torch.nn.Conv3d`; :math:`w_k` is a kernel, :math:`x_p` the padded patch of its
            group at :math:`p`.
        **kwargs: likewise, and the options of :class:`YatLinear`.

    Shape:
        - Input: :math:`(N, C, D, H, W)` or :math:`(C, D, H, W)`.
        - Output: :math:`(N, K, D', H', W')` or :math:`(K, D', H', W')`, as for :class:`torch.nn.Conv3d`.

    Reference:
        Bouhsine, *Deep Learning 2.0: Artificial Neurons that Matter*, https://arxiv.org/abs/2411.08085

    Example:
        >>> YatConv3d(4, 6, 3)(torch.zeros(1, 4, 5, 5, 5)).shape
        torch.Size([1, 6, 3, 3, 3])
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Score the patches of ``input`` against each kernel."""
        return self._product(input)

    def _product(self, input: torch.Tensor, *, score: torch.Tensor | None = None) -> torch.Tensor:
        return yat_conv3d(**self._arguments(input), score=score)

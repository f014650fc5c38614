"""The Yat counterparts of ``nn.Conv1d``, ``nn.Conv2d`` and ``nn.Conv3d``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from bioconvert.core.registry import layer
from bioconvert.functional import yat_conv1d, yat_conv2d, yat_conv3d
from bioconvert.functional.units import BiasMode
from bioconvert.layers.yat_core import YatLayer
from bioconvert.layers.yat_options import Alpha, set_up

# Leaves in a user's own symbolic_trace: what is inside looks at sizes, which a trace doesn't know.
fx.wrap("yat_conv1d")
fx.wrap("yat_conv2d")
fx.wrap("yat_conv3d")


class YatConv(YatLayer):
    """What the Yat convolutions share, whatever their number of dimensions."""

    _function: Callable[..., torch.Tensor]

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
        *,
        bias_mode: BiasMode = "pre",
        alpha: Alpha = "learnable",
        per_unit: bool = False,
        offset: bool = False,
        epsilon: float = 1e-5,
        learnable_epsilon: bool = False,
        spherical: bool = False,
        weight_normalized: bool = False,
        drop_connect: float = 0.0,
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
        set_up(
            self,
            out_channels,
            bias_mode=bias_mode,
            alpha=alpha,
            per_unit=per_unit,
            offset=offset,
            epsilon=epsilon,
            learnable_epsilon=learnable_epsilon,
            spherical=spherical,
            weight_normalized=weight_normalized,
            drop_connect=drop_connect,
        )

    def forward_beside(
        self, output: torch.Tensor, bias: torch.Tensor | None, input: torch.Tensor
    ) -> torch.Tensor:
        """Give the output for ``input`` from what the linear map on the same weight gave for it.

        Args:
            output: the linear map's output.
            bias: the bias that is in it.
            input: the input.

        Returns:
            ``NotImplemented`` where the products that are in ``output`` are of no use.
        """
        own: Any = self
        score = self._score_in(output, bias, output.dim() - len(own.kernel_size) - 1)
        if score is None:
            return NotImplemented  # type: ignore[no-any-return]
        return type(self)._function(**self._arguments(input), score=score)

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
            "bias": own.bias,
            "stride": own.stride,
            "padding": padding,
            "dilation": own.dilation,
            "groups": own.groups,
            **self._unit_arguments(own.out_channels),
        }


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

    _function = staticmethod(yat_conv1d)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Score the patches of ``input`` against each kernel."""
        return yat_conv1d(**self._arguments(input))


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

    _function = staticmethod(yat_conv2d)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Score the patches of ``input`` against each kernel."""
        return yat_conv2d(**self._arguments(input))


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

    _function = staticmethod(yat_conv3d)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Score the patches of ``input`` against each kernel."""
        return yat_conv3d(**self._arguments(input))

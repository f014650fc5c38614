"""The Yat counterparts of ``nn.ConvTranspose1d``, ``nn.ConvTranspose2d`` and ``nn.ConvTranspose3d``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn
from typing_extensions import Unpack

from bioconvert.core.registry import layer
from bioconvert.functional import yat_conv_transpose1d, yat_conv_transpose2d, yat_conv_transpose3d
from bioconvert.functional.transposed import Taps
from bioconvert.layers.yat_core import YatLayer
from bioconvert.layers.yat_options import YatOptions, set_up

# Leaves in a user's own symbolic_trace: what is inside looks at sizes, which a trace doesn't know.
fx.wrap("yat_conv_transpose1d")
fx.wrap("yat_conv_transpose2d")
fx.wrap("yat_conv_transpose3d")


class YatConvTranspose(YatLayer):
    """What the transposed Yat convolutions share, whatever their number of dimensions."""

    taps: Taps = "contributing"

    _unit_dim = 1

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
        *,
        taps: Taps = "contributing",
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
            output_padding=output_padding,
            groups=groups,
            bias=bias and options.get("constant_bias") is None,
            dilation=dilation,
            padding_mode=padding_mode,
            device=device,
            dtype=dtype,
        )
        set_up(self, out_channels, unit_dim=self._unit_dim, taps=taps, **options)

    def _arguments(self, input: torch.Tensor, output_size: Sequence[int] | None) -> dict[str, Any]:
        """Give the arguments of the functional counterpart."""
        own: Any = self
        sizes = own.stride, own.padding, own.kernel_size
        output_padding = own._output_padding(input, output_size, *sizes, len(own.kernel_size), own.dilation)
        return {
            "x": input,
            "weight": self._effective_weight(),
            "stride": own.stride,
            "padding": own.padding,
            "output_padding": output_padding,
            "groups": own.groups,
            "dilation": own.dilation,
            "taps": self.taps,
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
class YatConvTranspose1d(YatConvTranspose, nn.ConvTranspose1d):
    r"""Scores, at each point of a signal, what reaches it against the weights by which it does.

    .. math::
        y_k(p) = \alpha \, \frac{(w_{kp} \cdot x_p + b_k)^2}{\lVert w_{kp} - x_p \rVert^2 + \varepsilon} + o_k

    The layer is non-linear by itself: no activation follows it.

    Args:
        *args: as for :class:`torch.nn.ConvTranspose1d`; :math:`x_p` is what of the input reaches the output
            at :math:`p`, and :math:`w_{kp}` has the taps of channel :math:`k` by which it does.
        taps: ``"contributing"`` for the distance as above; ``"kernel"`` takes :math:`\lVert w_k \rVert^2` of
            the whole kernel in :math:`\lVert w_{kp} \rVert^2 + \lVert x_p \rVert^2 - 2 w_{kp} \cdot x_p`.
        **kwargs: as for :class:`torch.nn.ConvTranspose1d`, and the options of :class:`YatLinear`; the units
            of ``kernel_bank`` are in its dimension 1, those of one group.

    Shape:
        - Input: :math:`(N, C, L)` or :math:`(C, L)`.
        - Output: :math:`(N, K, L')` or :math:`(K, L')`, as for
          :class:`torch.nn.ConvTranspose1d`.

    Reference:
        Bouhsine, *Deep Learning 2.0: Artificial Neurons that Matter*, https://arxiv.org/abs/2411.08085

    Example:
        >>> YatConvTranspose1d(4, 6, 2, stride=2)(torch.zeros(1, 4, 4)).shape
        torch.Size([1, 6, 8])
    """

    def forward(self, input: torch.Tensor, output_size: Sequence[int] | None = None) -> torch.Tensor:
        """Score what reaches each output; ``output_size`` chooses among the sizes that the stride allows."""
        return self._product(input, output_size)

    def _product(
        self,
        input: torch.Tensor,
        output_size: Sequence[int] | None = None,
        *,
        score: torch.Tensor | None = None,
    ) -> torch.Tensor:
        return yat_conv_transpose1d(**self._arguments(input, output_size), score=score)


@layer
class YatConvTranspose2d(YatConvTranspose, nn.ConvTranspose2d):
    r"""Scores, at each point of a picture, what reaches it against the weights by which it does.

    .. math::
        y_k(p) = \alpha \, \frac{(w_{kp} \cdot x_p + b_k)^2}{\lVert w_{kp} - x_p \rVert^2 + \varepsilon} + o_k

    The layer is non-linear by itself: no activation follows it.

    Args:
        *args: as for :class:`torch.nn.ConvTranspose2d`; :math:`x_p` is what of the input reaches the output
            at :math:`p`, and :math:`w_{kp}` has the taps of channel :math:`k` by which it does.
        taps: ``"contributing"`` for the distance as above; ``"kernel"`` takes :math:`\lVert w_k \rVert^2` of
            the whole kernel in :math:`\lVert w_{kp} \rVert^2 + \lVert x_p \rVert^2 - 2 w_{kp} \cdot x_p`.
        **kwargs: as for :class:`torch.nn.ConvTranspose2d`, and the options of :class:`YatLinear`; the units
            of ``kernel_bank`` are in its dimension 1, those of one group.

    Shape:
        - Input: :math:`(N, C, H, W)` or :math:`(C, H, W)`.
        - Output: :math:`(N, K, H', W')` or :math:`(K, H', W')`, as for
          :class:`torch.nn.ConvTranspose2d`.

    Reference:
        Bouhsine, *Deep Learning 2.0: Artificial Neurons that Matter*, https://arxiv.org/abs/2411.08085

    Example:
        >>> YatConvTranspose2d(4, 6, 2, stride=2)(torch.zeros(1, 4, 4, 4)).shape
        torch.Size([1, 6, 8, 8])
    """

    def forward(self, input: torch.Tensor, output_size: Sequence[int] | None = None) -> torch.Tensor:
        """Score what reaches each output; ``output_size`` chooses among the sizes that the stride allows."""
        return self._product(input, output_size)

    def _product(
        self,
        input: torch.Tensor,
        output_size: Sequence[int] | None = None,
        *,
        score: torch.Tensor | None = None,
    ) -> torch.Tensor:
        return yat_conv_transpose2d(**self._arguments(input, output_size), score=score)


@layer
class YatConvTranspose3d(YatConvTranspose, nn.ConvTranspose3d):
    r"""Scores, at each point of a volume, what reaches it against the weights by which it does.

    .. math::
        y_k(p) = \alpha \, \frac{(w_{kp} \cdot x_p + b_k)^2}{\lVert w_{kp} - x_p \rVert^2 + \varepsilon} + o_k

    The layer is non-linear by itself: no activation follows it.

    Args:
        *args: as for :class:`torch.nn.ConvTranspose3d`; :math:`x_p` is what of the input reaches the output
            at :math:`p`, and :math:`w_{kp}` has the taps of channel :math:`k` by which it does.
        taps: ``"contributing"`` for the distance as above; ``"kernel"`` takes :math:`\lVert w_k \rVert^2` of
            the whole kernel in :math:`\lVert w_{kp} \rVert^2 + \lVert x_p \rVert^2 - 2 w_{kp} \cdot x_p`.
        **kwargs: as for :class:`torch.nn.ConvTranspose3d`, and the options of :class:`YatLinear`; the units
            of ``kernel_bank`` are in its dimension 1, those of one group.

    Shape:
        - Input: :math:`(N, C, D, H, W)` or :math:`(C, D, H, W)`.
        - Output: :math:`(N, K, D', H', W')` or :math:`(K, D', H', W')`, as for
          :class:`torch.nn.ConvTranspose3d`.

    Reference:
        Bouhsine, *Deep Learning 2.0: Artificial Neurons that Matter*, https://arxiv.org/abs/2411.08085

    Example:
        >>> YatConvTranspose3d(4, 6, 2, stride=2)(torch.zeros(1, 4, 2, 2, 2)).shape
        torch.Size([1, 6, 4, 4, 4])
    """

    def forward(self, input: torch.Tensor, output_size: Sequence[int] | None = None) -> torch.Tensor:
        """Score what reaches each output; ``output_size`` chooses among the sizes that the stride allows."""
        return self._product(input, output_size)

    def _product(
        self,
        input: torch.Tensor,
        output_size: Sequence[int] | None = None,
        *,
        score: torch.Tensor | None = None,
    ) -> torch.Tensor:
        return yat_conv_transpose3d(**self._arguments(input, output_size), score=score)

"""A convolution whose kernels the Möbius composer makes out of a context."""

from __future__ import annotations

import math

import torch
from torch import nn

from bioconvert.core.registry import layer
from bioconvert.layers.composed_conv2d import ComposedConv2d, PaddingMode, Size
from bioconvert.layers.tensor_composer_mobius import TensorComposerMobius

_OFFSET_DEVIATION = 1e-3
"""Standard deviation that the offset starts with."""


@layer
class DynamicConv2dMobius(ComposedConv2d):
    r"""Convolves each picture with kernels of its own, composed out of shifted and inverted complex spaces.

    .. math::
        y_b = K(W(c_b) + \Delta) * \operatorname{pad}(x_b + o, v) + \beta + s - o

    :math:`W` is what :class:`TensorComposerMobius` composes, :math:`K` cuts it into kernels, block by block.

    Args:
        in_channels: number :math:`I` of input channels.
        out_channels: number :math:`O` of output channels.
        context_length: length :math:`L` of a context :math:`c`.
        kernel_size: the kernel's sides.
        stride: as for :class:`torch.nn.Conv2d`.
        padding: one number, one for each dimension, or one for each side: left, right, top, bottom.
        dilation: as for :class:`torch.nn.Conv2d`.
        groups: likewise.
        padding_mode: likewise.
        padding_dynamic: whether the number :math:`v` that stands in the padding is learnt; there is one only
            where zeros would stand.
        transpose: whether the convolution is transposed; its padding cuts the output.
        output_padding: as for :class:`torch.nn.ConvTranspose2d`.
        n_subspaces: number of subspaces, as for :class:`TensorComposerMobius`.
        rank_subspace: number of ranks in each.
        rank_transformations: number of control points of each side.
        asymmetry: least squared absolute value of what is inverted, and bound of :math:`\Delta` at first.
        bias_dynamic: whether there are :math:`\Delta`, by which all contexts' weights are shifted, and
            :math:`\beta`, the bias of the convolution; both learnt.
        bias_static: the constant :math:`s`; ``None`` for none.
        offset_dynamic: whether there is a learnt offset :math:`o`.
        device: where the tensors are.
        dtype: their type.

    Shape:
        - Input: :math:`(B, I, H, W)`; context: :math:`(B, L)`, or :math:`(1, L)` for all.
        - Output: :math:`(B, O, H', W')`.

    Raises:
        ValueError: a size or an option is out of its bounds.

    Example:
        >>> DynamicConv2dMobius(4, 6, 16, padding=1)(torch.zeros(2, 4, 8, 8), torch.zeros(2, 16)).shape
        torch.Size([2, 6, 8, 8])
    """

    offset_dynamic_value: nn.Parameter | None
    bias_dynamic_weights_lib: nn.Parameter | None
    bias_dynamic_conv: nn.Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        context_length: int,
        kernel_size: Size = 3,
        *,
        stride: Size = 1,
        padding: Size = 0,
        dilation: Size = 1,
        groups: int = 1,
        padding_mode: PaddingMode = "zeros",
        padding_dynamic: bool = True,
        transpose: bool = False,
        output_padding: Size = 0,
        n_subspaces: int = 16,
        rank_subspace: int = 16,
        rank_transformations: int = 16,
        asymmetry: float = 1e-3,
        bias_dynamic: bool = True,
        bias_static: float | None = None,
        offset_dynamic: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            padding_mode,
            padding_dynamic,
            transpose,
            output_padding,
            device,
            dtype,
        )
        self.weights_lib = TensorComposerMobius(
            context_length,
            *self.matrix_shape,
            n_subspaces=n_subspaces,
            rank_subspace=rank_subspace,
            rank_transformations=rank_transformations,
            asymmetry=asymmetry,
            device=device,
            dtype=dtype,
        )
        self._add_biases(asymmetry, bias_dynamic, bias_static, offset_dynamic, device, dtype)

    def _add_biases(
        self,
        asymmetry: float,
        dynamic: bool,
        static: float | None,
        offset: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        def parameter(wanted: bool, *shape: int) -> nn.Parameter | None:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype)) if wanted else None

        self.register_parameter("offset_dynamic_value", parameter(offset, 1))
        self.register_parameter("bias_dynamic_weights_lib", parameter(dynamic, 1, *self.matrix_shape))
        self.register_parameter("bias_dynamic_conv", parameter(dynamic, self.out_channels))
        constant = None if static is None else torch.full((1,), static, device=device, dtype=dtype)
        self.register_buffer("bias_static_buffer", constant)
        if self.offset_dynamic_value is not None:
            nn.init.normal_(self.offset_dynamic_value, 0, _OFFSET_DEVIATION)
        if self.bias_dynamic_weights_lib is not None:
            nn.init.uniform_(self.bias_dynamic_weights_lib, -asymmetry, asymmetry)
        if self.bias_dynamic_conv is not None:
            inputs = self.in_channels // self.groups * math.prod(self.kernel_size)
            bound = 1 / math.sqrt(inputs)
            nn.init.uniform_(self.bias_dynamic_conv, -bound, bound)

    def forward(self, input: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """Convolve ``input`` with the kernels that are composed from ``context``."""
        matrices = self.weights_lib(context)
        if self.bias_dynamic_weights_lib is not None:
            matrices = matrices + self.bias_dynamic_weights_lib.to(matrices.dtype)
        if self.offset_dynamic_value is not None:
            input = input + self.offset_dynamic_value.to(input.dtype)
        return self._convolve(input, matrices, self._bias())

    def _bias(self) -> torch.Tensor | None:
        """Give the sum of all that is added to the output, for each channel."""
        offset = self.offset_dynamic_value
        terms = (
            self.bias_dynamic_conv,
            self._buffers["bias_static_buffer"],
            None if offset is None else -offset,
        )
        held = [term for term in terms if term is not None]
        return sum(held[1:], start=held[0]).expand(self.out_channels) if held else None

"""A convolution whose kernels the Delta composer makes out of a context."""

from __future__ import annotations

import torch

from bioconvert.core.registry import layer
from bioconvert.layers.composed_conv2d import ComposedConv2d, PaddingMode, Size
from bioconvert.layers.tensor_composer_delta import TensorComposerDelta


@layer
class DynamicConv2dDelta(ComposedConv2d):
    r"""Convolves each picture with kernels of its own, composed out of mixed complex banks.

    .. math::
        y_b = K(W(c_b)) * \operatorname{pad}(x_b, v)

    :math:`W` is what :class:`TensorComposerDelta` composes, :math:`K` cuts it into kernels, block by block.

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
        rank: number of ranks, as for :class:`TensorComposerDelta`.
        repulsion: likewise, like all that follow.
        noise: standard deviation of the noise on the weights; training only.
        rank_noise: standard deviation of the noise on the ranks; training only.
        similarity: strength of the gradient of the ranks' similarity.
        temperature: what the logits of the ranks are divided by, to start with.
        device: where the tensors are.
        dtype: their type.

    Shape:
        - Input: :math:`(B, I, H, W)`; context: :math:`(B, L)`, or :math:`(1, L)` for all.
        - Output: :math:`(B, O, H', W')`.

    Raises:
        ValueError: a size or an option is out of its bounds.

    Example:
        >>> DynamicConv2dDelta(4, 6, 16, padding=1)(torch.zeros(2, 4, 8, 8), torch.zeros(2, 16)).shape
        torch.Size([2, 6, 8, 8])
    """

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
        rank: int = 4,
        repulsion: float = 0.3,
        noise: float = 0.01,
        rank_noise: float = 0.01,
        similarity: float = 0.1,
        temperature: float = 5.0,
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
        self.weights_lib = TensorComposerDelta(
            context_length,
            *self.matrix_shape,
            rank=rank,
            repulsion=repulsion,
            noise=noise,
            rank_noise=rank_noise,
            similarity=similarity,
            temperature=temperature,
            device=device,
            dtype=dtype,
        )

    def forward(self, input: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """Convolve ``input`` with the kernels that are composed from ``context``."""
        return self._convolve(input, self.weights_lib(context), None)

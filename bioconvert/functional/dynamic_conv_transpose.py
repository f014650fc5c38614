"""Transposed convolutions whose kernel may be another for each sample of the batch."""

from __future__ import annotations

import torch

from bioconvert.functional.dynamic_conv import convolved
from bioconvert.functional.geometry import Size
from bioconvert.functional.sample_convolution import Convolution


def dynamic_conv_transpose1d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> torch.Tensor:
    r"""Spread each signal of a batch by a kernel of its own.

    .. math::
        y_n = w_{\lfloor n W / N \rfloor} *^\top x_n + b_{\lfloor n W / N \rfloor}

    Args:
        x: inputs :math:`x_n`.
        weight: kernels :math:`w`: one for each sample, one for each :math:`N / W` samples that follow one
            another, or one for all, which makes it a plain transposed convolution.
        bias: :math:`b`, one for each kernel or for all.
        stride: as in :func:`torch.nn.functional.conv_transpose1d`.
        padding: likewise.
        output_padding: likewise.
        groups: likewise.
        dilation: likewise.

    Shape:
        - ``x``: :math:`(N, C, L)` or :math:`(C, L)`.
        - ``weight``: :math:`(W, C, K / \text{groups}, S)` with :math:`W` a divisor of :math:`N`.
        - ``bias``: :math:`(K)` or :math:`(W, K)`.
        - Output: :math:`(N, K, L')` or :math:`(K, L')`.

    Raises:
        ValueError: a shape is not as above.
    """
    how = Convolution(stride, padding, dilation, groups, transposed=True, output_padding=output_padding)
    return convolved(x, weight, bias, how, 1)


def dynamic_conv_transpose2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> torch.Tensor:
    r"""Spread each picture of a batch by a kernel of its own.

    .. math::
        y_n = w_{\lfloor n W / N \rfloor} *^\top x_n + b_{\lfloor n W / N \rfloor}

    Args:
        x: inputs :math:`x_n`.
        weight: kernels :math:`w`: one for each sample, one for each :math:`N / W` samples that follow one
            another, or one for all, which makes it a plain transposed convolution.
        bias: :math:`b`, one for each kernel or for all.
        stride: as in :func:`torch.nn.functional.conv_transpose2d`.
        padding: likewise.
        output_padding: likewise.
        groups: likewise.
        dilation: likewise.

    Shape:
        - ``x``: :math:`(N, C, H, W)` or :math:`(C, H, W)`.
        - ``weight``: :math:`(W, C, K / \text{groups}, S, T)` with :math:`W` a divisor of :math:`N`.
        - ``bias``: :math:`(K)` or :math:`(W, K)`.
        - Output: :math:`(N, K, H', W')` or :math:`(K, H', W')`.

    Raises:
        ValueError: a shape is not as above.
    """
    how = Convolution(stride, padding, dilation, groups, transposed=True, output_padding=output_padding)
    return convolved(x, weight, bias, how, 2)


def dynamic_conv_transpose3d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> torch.Tensor:
    r"""Spread each volume of a batch by a kernel of its own.

    .. math::
        y_n = w_{\lfloor n W / N \rfloor} *^\top x_n + b_{\lfloor n W / N \rfloor}

    Args:
        x: inputs :math:`x_n`.
        weight: kernels :math:`w`: one for each sample, one for each :math:`N / W` samples that follow one
            another, or one for all, which makes it a plain transposed convolution.
        bias: :math:`b`, one for each kernel or for all.
        stride: as in :func:`torch.nn.functional.conv_transpose3d`.
        padding: likewise.
        output_padding: likewise.
        groups: likewise.
        dilation: likewise.

    Shape:
        - ``x``: :math:`(N, C, D, H, W)` or :math:`(C, D, H, W)`.
        - ``weight``: :math:`(W, C, K / \text{groups}, R, S, T)` with :math:`W` a divisor of :math:`N`.
        - ``bias``: :math:`(K)` or :math:`(W, K)`.
        - Output: :math:`(N, K, D', H', W')` or :math:`(K, D', H', W')`.

    Raises:
        ValueError: a shape is not as above.
    """
    how = Convolution(stride, padding, dilation, groups, transposed=True, output_padding=output_padding)
    return convolved(x, weight, bias, how, 3)

"""Convolutions whose kernel may be another for each sample of the batch."""

from __future__ import annotations

import torch

from bioconvert.functional.geometry import Padding, Size
from bioconvert.functional.sample_convolution import Convolution


def dynamic_conv1d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> torch.Tensor:
    r"""Convolve each signal of a batch with a kernel of its own.

    .. math::
        y_n = w_{\lfloor n W / N \rfloor} * x_n + b_{\lfloor n W / N \rfloor}

    Args:
        x: inputs :math:`x_n`.
        weight: kernels :math:`w`: one for each sample, one for each :math:`N / W` samples that follow one
            another, or one for all, which makes it a plain convolution.
        bias: :math:`b`, one for each kernel or for all.
        stride: as in :func:`torch.nn.functional.conv1d`.
        padding: likewise.
        dilation: likewise.
        groups: likewise.

    Shape:
        - ``x``: :math:`(N, C, L)` or :math:`(C, L)`.
        - ``weight``: :math:`(W, K, C / \text{groups}, S)` with :math:`W` a divisor of :math:`N`.
        - ``bias``: :math:`(K)` or :math:`(W, K)`.
        - Output: :math:`(N, K, L')` or :math:`(K, L')`.

    Raises:
        ValueError: a shape is not as above.
    """
    return convolved(x, weight, bias, Convolution(stride, padding, dilation, groups), 1)


def dynamic_conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> torch.Tensor:
    r"""Convolve each picture of a batch with a kernel of its own.

    .. math::
        y_n = w_{\lfloor n W / N \rfloor} * x_n + b_{\lfloor n W / N \rfloor}

    Args:
        x: inputs :math:`x_n`.
        weight: kernels :math:`w`: one for each sample, one for each :math:`N / W` samples that follow one
            another, or one for all, which makes it a plain convolution.
        bias: :math:`b`, one for each kernel or for all.
        stride: as in :func:`torch.nn.functional.conv2d`.
        padding: likewise.
        dilation: likewise.
        groups: likewise.

    Shape:
        - ``x``: :math:`(N, C, H, W)` or :math:`(C, H, W)`.
        - ``weight``: :math:`(W, K, C / \text{groups}, S, T)` with :math:`W` a divisor of :math:`N`.
        - ``bias``: :math:`(K)` or :math:`(W, K)`.
        - Output: :math:`(N, K, H', W')` or :math:`(K, H', W')`.

    Raises:
        ValueError: a shape is not as above.
    """
    return convolved(x, weight, bias, Convolution(stride, padding, dilation, groups), 2)


def dynamic_conv3d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> torch.Tensor:
    r"""Convolve each volume of a batch with a kernel of its own.

    .. math::
        y_n = w_{\lfloor n W / N \rfloor} * x_n + b_{\lfloor n W / N \rfloor}

    Args:
        x: inputs :math:`x_n`.
        weight: kernels :math:`w`: one for each sample, one for each :math:`N / W` samples that follow one
            another, or one for all, which makes it a plain convolution.
        bias: :math:`b`, one for each kernel or for all.
        stride: as in :func:`torch.nn.functional.conv3d`.
        padding: likewise.
        dilation: likewise.
        groups: likewise.

    Shape:
        - ``x``: :math:`(N, C, D, H, W)` or :math:`(C, D, H, W)`.
        - ``weight``: :math:`(W, K, C / \text{groups}, R, S, T)` with :math:`W` a divisor of :math:`N`.
        - ``bias``: :math:`(K)` or :math:`(W, K)`.
        - Output: :math:`(N, K, D', H', W')` or :math:`(K, D', H', W')`.

    Raises:
        ValueError: a shape is not as above.
    """
    return convolved(x, weight, bias, Convolution(stride, padding, dilation, groups), 3)


def convolved(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, how: Convolution, space: int
) -> torch.Tensor:
    """Convolve a batch, or one input without it, over ``space`` dimensions; arguments as above."""
    if weight.dim() != space + 3:
        raise ValueError(f"weight must have {space + 3} dimensions, got the shape {[*weight.shape]}")
    if bias is not None and bias.dim() == 2 and bias.shape[0] != weight.shape[0]:
        raise ValueError(f"bias must have {weight.shape[0]} rows, one for each kernel, got {bias.shape[0]}")
    if x.dim() == space + 1:
        return how.varied(x.unsqueeze(0), weight, bias).squeeze(0)
    return how.varied(x, weight, bias)

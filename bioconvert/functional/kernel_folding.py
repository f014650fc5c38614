"""The matrix that a bank of kernels is composed as, and the kernels that are read out of it."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch


def folded_shape(kernel: Sequence[int]) -> tuple[int, int]:
    """Give the sides of the matrix that is cut into the kernels of a convolution.

    It starts with one block of rows for each output channel and one block of columns for each input channel;
    the longer side is halved and the shorter doubled as long as that brings it nearer a square and whole
    kernels still tile it.

    Args:
        kernel: the shape of the convolution's weight, :math:`(O, I, k_h, k_w)`; of a transposed one
            :math:`(I, O, k_h, k_w)`.

    Example:
        >>> folded_shape((64, 4, 3, 3))
        (48, 48)
    """
    outer, inner, height, width = kernel
    # Only whole blocks are counted, so halving an even number of them keeps the tiling.
    while outer * height > 2 * inner * width and outer % 2 == 0:
        outer, inner = outer // 2, inner * 2
    while inner * width > 2 * outer * height and inner % 2 == 0:
        outer, inner = outer * 2, inner // 2
    return outer * height, inner * width


def kernels_from(matrices: torch.Tensor, kernel: Sequence[int]) -> torch.Tensor:
    """Cut matrices into the kernels of a convolution, block by block along the rows.

    Args:
        matrices: one matrix, of the sides of :func:`folded_shape`, for each sample.
        kernel: the shape of the convolution's weight, :math:`(O, I, k_h, k_w)`.

    Shape:
        - ``matrices``: :math:`(B, H, W)`.
        - Output: :math:`(B, O, I, k_h, k_w)`.

    Raises:
        ValueError: the matrices don't hold as many elements as the kernels.

    Example:
        >>> kernels_from(torch.arange(16.0).view(1, 4, 4), (2, 2, 2, 2))[0, 0, 1]
        tensor([[2., 3.],
                [6., 7.]])
    """
    rows, cols = matrices.shape[1:]
    if rows * cols != prod(kernel):
        raise ValueError(f"matrices must hold {prod(kernel)} elements each, got {rows} x {cols}")
    height, width = kernel[2:]
    blocks = matrices.reshape(-1, rows // height, height, cols // width, width)
    return blocks.transpose(2, 3).reshape(-1, *kernel)

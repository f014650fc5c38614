"""A linear map whose matrix may be another for each sample of the batch."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from bioconvert.functional.sample_matrix import Matrix


def dynamic_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    r"""Multiply each sample of a batch by a matrix of its own.

    .. math::
        y_n = x_n w_{\lfloor n W / N \rfloor}^\top + b_{\lfloor n W / N \rfloor}

    Args:
        x: inputs :math:`x_n`.
        weight: matrices :math:`w`: one for each sample, one for each :math:`N / W` samples that follow one
            another, or one for all, which makes it a plain linear map.
        bias: :math:`b`, one for each matrix or for all.

    Shape:
        - ``x``: :math:`(N, *, F)` or :math:`(F)`.
        - ``weight``: :math:`(W, K, F)` with :math:`W` a divisor of :math:`N`.
        - ``bias``: :math:`(K)` or :math:`(W, K)`.
        - Output: :math:`(N, *, K)` or :math:`(K)`.

    Raises:
        ValueError: a shape is not as above.
    """
    if weight.dim() != 3:
        raise ValueError(f"weight must have 3 dimensions, got the shape {[*weight.shape]}")
    if bias is not None and bias.dim() == 2 and bias.shape[0] != weight.shape[0]:
        raise ValueError(f"bias must have {weight.shape[0]} rows, one for each matrix, got {bias.shape[0]}")
    if x.dim() == 1:
        return Matrix().varied(x.unsqueeze(0), weight, bias).squeeze(0)
    return Matrix().varied(x, weight, bias)


def mixed_linear(x: torch.Tensor, matrices: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    r"""Multiply by every matrix and mix the outputs; the same as multiplying by a mixture of the matrices.

    .. math::
        y_n = \sum_k a_{nk} \, x_n M_k^\top

    Args:
        x: inputs :math:`x_n`.
        matrices: :math:`M_k`.
        shares: :math:`a`, with a row for each sample.

    Shape:
        - ``x``: :math:`(N, *, F)`.
        - ``matrices``: :math:`(K, O, F)`.
        - ``shares``: :math:`(N, K)`.
        - Output: :math:`(N, *, O)`.
    """
    kernels, outputs, _ = matrices.shape
    parts = F.linear(x, matrices.flatten(0, 1)).view(*x.shape[:-1], kernels, outputs)
    mixed = torch.matmul(shares.view(-1, *[1] * (x.dim() - 1), kernels), parts)
    return mixed.squeeze(-2)


def mixes_outputs(positions: int, kernels: int) -> bool:
    """Say whether mixing the outputs takes fewer multiplications than mixing the matrices.

    Args:
        positions: vectors that one mixture acts on.
        kernels: number of matrices.
    """
    return positions * kernels <= positions + kernels

"""Complex numbers as pairs (re, im) in a last dimension: what compilers and half precision can do too."""

from __future__ import annotations

import torch


def pair_product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Multiply complex pairs, with broadcasting.

    Args:
        a: pairs, [..., 2].
        b: likewise.

    Example:
        >>> pair_product(torch.tensor([0.0, 1.0]), torch.tensor([2.0, 3.0]))
        tensor([-3.,  2.])
    """
    (a_re, a_im), (b_re, b_im) = a.unbind(-1), b.unbind(-1)
    return torch.stack([a_re * b_re - a_im * b_im, a_re * b_im + a_im * b_re], dim=-1)


def pair_matrix(a: torch.Tensor) -> torch.Tensor:
    """Give, for each complex pair, the real matrix that multiplies a pair (a column) by it.

    Args:
        a: pairs, [..., 2].

    Returns:
        [..., 2, 2].

    Example:
        >>> pair_matrix(torch.tensor([1.0, 2.0])) @ torch.tensor([0.0, 1.0])
        tensor([-2.,  1.])
    """
    re, im = a.unbind(-1)
    return torch.stack([torch.stack([re, -im], dim=-1), torch.stack([im, re], dim=-1)], dim=-2)


def pair_of(matrix: torch.Tensor) -> torch.Tensor:
    """Give the adjoint of :func:`pair_matrix`: the gradient of a pair, from that of its matrix.

    Args:
        matrix: [..., 2, 2].

    Returns:
        [..., 2].

    Example:
        >>> pair_of(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        tensor([5., 1.])
    """
    (re, minus), (im, other) = (row.unbind(-1) for row in matrix.unbind(-2))
    return torch.stack([re + other, im - minus], dim=-1)

"""The ways in which a composer's tensors get their first values."""

from __future__ import annotations

import math

import torch

from bioconvert.core.random import Stream
from bioconvert.layers.composer import ComposerTensor


def constant(shape: tuple[int, ...], value: float) -> ComposerTensor:
    """Describe a tensor that starts from one value throughout.

    Args:
        shape: its shape.
        value: the value.
    """
    return ComposerTensor(shape, lambda stream, name: torch.full(shape, value))  # noqa: ARG005


def one_pairs(shape: tuple[int, ...]) -> ComposerTensor:
    """Describe complex pairs that start from 1 + 0i.

    Args:
        shape: its shape, of which the last dimension has real and imaginary parts.
    """
    return ComposerTensor(
        shape,
        lambda stream, name: torch.tensor([1.0, 0.0]).expand(shape).clone(),  # noqa: ARG005
    )


def normal(shape: tuple[int, ...], deviation: float) -> ComposerTensor:
    """Describe a tensor of normal numbers around zero.

    Args:
        shape: its shape.
        deviation: their standard deviation.
    """
    return ComposerTensor(shape, lambda stream, name: stream.normal(name, shape) * deviation)


def uniform(shape: tuple[int, ...], bound: float) -> ComposerTensor:
    """Describe a tensor of uniform numbers in ±``bound``.

    Args:
        shape: its shape.
        bound: the bound.
    """
    return ComposerTensor(shape, lambda stream, name: (2 * stream.uniform(name, shape) - 1) * bound)


def xavier(outputs: int, inputs: int) -> ComposerTensor:
    """Describe the weight of a linear map, after Glorot and Bengio.

    Args:
        outputs: number of rows.
        inputs: number of columns.
    """
    return uniform((outputs, inputs), math.sqrt(6 / (outputs + inputs)))


def dirichlet_rows(shape: tuple[int, ...], concentration: float, deviation: float) -> ComposerTensor:
    """Describe complex pairs whose real parts are positive with a sum of 1, row by row.

    Args:
        shape: its shape; rows are along the last dimension but one, and the last has the parts.
        concentration: that of the Dirichlet distribution; the smaller, the fewer numbers make up the sum.
        deviation: standard deviation of the imaginary parts, which are normal.
    """

    def draw(stream: Stream, name: str) -> torch.Tensor:
        gammas = stream.gamma(name, shape[:-1], concentration)
        shares = gammas / gammas.sum(-1, keepdim=True).clamp_min(torch.finfo(gammas.dtype).tiny)
        return torch.stack([shares, stream.normal(f"{name}, imaginary", shape[:-1]) * deviation], dim=-1)

    return ComposerTensor(shape, draw)

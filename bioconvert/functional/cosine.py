"""Scores and norms of vectors brought to unit length, without forming the vectors."""

from __future__ import annotations

from typing import NamedTuple

import torch

_LEAST_NORM = 1e-12
"""Squared norm below which a vector counts as zero, whose cosine with everything is 0."""


def on_sphere(
    score: torch.Tensor, input_norm: torch.Tensor, weight_norm: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    r"""Turn a dot product into a cosine, and both squared norms into 1.

    .. math::
        t \mapsto \frac{t}{\lVert x \rVert \lVert w \rVert}
    """
    cosine = score * _scale(input_norm) * _scale(weight_norm)
    return cosine, torch.ones_like(input_norm), torch.ones_like(weight_norm)


class Sphere(NamedTuple):
    """Takes scores to cosines and gradients back, in place and without a graph.

    Args:
        input_norm: squared norms :math:`X` of the inputs.
        weight_norm: squared norms :math:`W` of the weights.
    """

    input_norm: torch.Tensor
    weight_norm: torch.Tensor

    def scale(self, score: torch.Tensor) -> None:
        """Turn scores into cosines, or gradients of cosines into those of scores."""
        score.mul_(_scale(self.input_norm)).mul_(_scale(self.weight_norm))

    def falls(self, grad: torch.Tensor, cosine: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        r"""Give -2 times the gradients of both squared norms from that of the cosine.

        .. math::
            -2 \, \partial c / \partial X = c / X, \quad -2 \, \partial c / \partial W = c / W
        """
        product = grad * cosine
        by_input, by_weight = (
            _summed(product, norm).div_(norm).masked_fill_(norm < _LEAST_NORM, 0.0) for norm in self
        )
        return by_input, by_weight


def _scale(norm: torch.Tensor) -> torch.Tensor:
    return norm.clamp(min=_LEAST_NORM).rsqrt()


def _summed(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return x.sum_to_size(like.shape).clone()

"""The Yat product in plain differentiable operations: its definition."""

from __future__ import annotations

from typing import NamedTuple

import torch

Coefficient = torch.Tensor | float


class Terms(NamedTuple):
    """What enters the Yat product besides the score; the tensors broadcast with the score.

    Args:
        input_norm: squared norm of the input.
        weight_norm: squared norm of the weight.
        bias: added to the score, or ``None``.
        alpha: factor of the quotient, or ``None`` for 1.
        epsilon: added to the squared distance.
        offset: added to the output, or ``None``.
    """

    input_norm: torch.Tensor
    weight_norm: torch.Tensor
    bias: Coefficient | None
    alpha: Coefficient | None
    epsilon: Coefficient
    offset: Coefficient | None


def value(score: torch.Tensor, terms: Terms, floor: float) -> torch.Tensor:
    r"""Give :math:`y = \alpha (t + b)^2 / D + o` for a score :math:`t`.

    Args:
        score: :math:`t`.
        terms: the squared norms :math:`X` and :math:`W`, and :math:`b, \alpha, \varepsilon, o`.
        floor: :math:`f`, see :func:`denominator`.
    """
    biased = score if terms.bias is None else score + terms.bias
    y = biased.square() / denominator(score, terms, floor)
    y = y if terms.alpha is None else y * terms.alpha
    return y if terms.offset is None else y + terms.offset


def denominator(score: torch.Tensor, terms: Terms, floor: float) -> torch.Tensor:
    r"""Give the squared distance, not less than its floor, plus epsilon.

    .. math::
        D = \max(X + W - 2t, \; f (X + W)) + \varepsilon
    """
    total = terms.input_norm + terms.weight_norm
    distance = total - 2 * score
    least = torch.maximum(distance, floor * total) if floor else distance.clamp(min=0)
    return least + terms.epsilon

"""The Yat product and its derivatives in plain operations: for graphs, transforms and second derivatives."""

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
    bias: torch.Tensor | None
    alpha: Coefficient | None
    epsilon: Coefficient
    offset: torch.Tensor | None


class Slopes(NamedTuple):
    """Derivatives of each output element by what enters it: ``norm`` stands for either squared norm."""

    score: torch.Tensor
    norm: torch.Tensor
    bias: torch.Tensor
    alpha: torch.Tensor
    epsilon: torch.Tensor


Gradients = tuple[torch.Tensor | None, ...]
"""Gradients of the score and of each of the :class:`Terms`, in that order; ``None`` where there is none."""


def value(score: torch.Tensor, terms: Terms, floor: float) -> torch.Tensor:
    r"""Give :math:`y = \alpha (t + b)^2 / D + o` for a score :math:`t`.

    .. math::
        D = \max(X + W - 2t, \; f (X + W)) + \varepsilon

    Args:
        score: :math:`t`.
        terms: the squared norms :math:`X` and :math:`W`, and :math:`b, \alpha, \varepsilon, o`.
        floor: :math:`f`.
    """
    divisor, _ = denominator(score, terms, floor)
    y = _biased(score, terms).square() / divisor
    y = y if terms.alpha is None else y * terms.alpha
    return y if terms.offset is None else y + terms.offset


def gradients(grad: torch.Tensor, score: torch.Tensor, terms: Terms, floor: float) -> Gradients:
    """Give the gradients of :func:`value`, each of the shape of what it belongs to."""
    slopes = _slopes(score, terms, floor)
    return (
        reduced(grad * slopes.score, score),
        reduced(grad * slopes.norm, terms.input_norm),
        reduced(grad * slopes.norm, terms.weight_norm),
        reduced(grad * slopes.bias, terms.bias),
        reduced(grad * slopes.alpha, terms.alpha),
        reduced(grad * slopes.epsilon, terms.epsilon),
        reduced(grad, terms.offset),
    )


def tangent(
    score: torch.Tensor, terms: Terms, floor: float, directions: tuple[torch.Tensor | None, ...]
) -> torch.Tensor:
    """Give the derivative of :func:`value` along directions of the score and the terms; ``None`` is zero."""
    slopes = _slopes(score, terms, floor)
    by = (slopes.score, slopes.norm, slopes.norm, slopes.bias, slopes.alpha, slopes.epsilon, 1.0)
    moved = torch.zeros_like(slopes.score)
    for slope, direction in zip(by, directions, strict=True):
        moved = moved if direction is None else moved + slope * direction
    return moved


def reduced(grad: torch.Tensor, like: Coefficient | None) -> torch.Tensor | None:
    """Sum a gradient to the shape of the tensor it belongs to; ``None`` where that is no tensor."""
    return grad.sum_to_size(like.shape) if isinstance(like, torch.Tensor) else None


def _slopes(score: torch.Tensor, terms: Terms, floor: float) -> Slopes:
    r"""With :math:`q = (t+b)/D`: :math:`\partial y/\partial b = 2\alpha q` and :math:`\partial y/\partial D = -\alpha q^2`."""
    divisor, far = denominator(score, terms, floor)
    biased = _biased(score, terms)
    quotient = biased / divisor
    by_bias = 2 * quotient if terms.alpha is None else 2 * quotient * terms.alpha
    by_distance = -0.5 * by_bias * quotient
    by_far = torch.where(far, by_distance, 0.0)
    return Slopes(
        score=by_bias - 2 * by_far,
        norm=by_far + floor * (by_distance - by_far),
        bias=by_bias,
        alpha=quotient * biased,
        epsilon=by_distance,
    )


def _biased(score: torch.Tensor, terms: Terms) -> torch.Tensor:
    return score if terms.bias is None else score + terms.bias


def denominator(score: torch.Tensor, terms: Terms, floor: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Give the floored distance plus epsilon, and where the distance lies above its floor."""
    total = terms.input_norm + terms.weight_norm
    distance = total - 2 * score
    least = floor * total
    return torch.maximum(distance, least) + terms.epsilon, distance > least

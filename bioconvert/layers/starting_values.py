r"""The values that a Yat layer starts from, given what its inputs look like.

With directions :math:`z_j \sim N(0, I_d)` and the layer's inputs, or patches of them, :math:`x`:

.. math::
    v_j = z_j \sqrt{E\lVert x \rVert^2 / d}, \quad
    c_j = \kappa \operatorname{std}(v_j \cdot x) - \operatorname{mean}(v_j \cdot x), \quad
    \varepsilon = \rho\, E\lVert x \rVert^2

and :math:`\alpha_j`, :math:`o_j` such that :math:`\alpha_j (v_j \cdot x + c_j)^2 / (\lVert x - v_j \rVert^2 +
\varepsilon) + o_j` has zero mean and unit variance. The shift by :math:`\kappa` deviations matters most:
around :math:`c_j = -\operatorname{mean}` a unit is even in its input, and what it gives is hardly correlated
with it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

VERTEX = 3.0
"""κ: deviations between the mean of a unit's score and the score at which the unit gives its least."""
RELATIVE_EPSILON = 0.1
"""ρ: ε over E‖x‖²."""
_LEAST_SPREAD = 1e-3
"""Deviation of a score, over that of equally long inputs in random directions, below which it is constant."""
_LEAST_VARIATION = 1e-5
"""Deviation of an output over its root mean square, below which it is constant: what fp32 rounds away."""


class FreshValues(NamedTuple):
    """The tensors of a Yat layer with :math:`K` units on :math:`d` features.

    Args:
        weight: :math:`v`, [K, d].
        bias: :math:`c`, [K].
        epsilon: :math:`\\varepsilon`, one for all units.
        alpha: :math:`\\alpha`, [K].
        offset: :math:`o`, [K].
    """

    weight: torch.Tensor
    bias: torch.Tensor
    epsilon: float
    alpha: torch.Tensor
    offset: torch.Tensor


def fresh_values(directions: torch.Tensor, scores: torch.Tensor, norms: torch.Tensor) -> FreshValues:
    r"""Give the values of a plain Yat layer, bias inside the square, with α and an offset for each unit.

    Args:
        directions: :math:`z`, standard normal numbers, [K, d].
        scores: :math:`z \cdot x` of :math:`n` inputs or patches, [n, K].
        norms: :math:`\lVert x \rVert^2` of the same, [n], [n, 1] or [n, K].

    Returns:
        The values, in fp64 and finite whatever the finite inputs: see :func:`vertex_bias` and
        :func:`standardisation` for inputs that don't vary.
    """
    features = directions.shape[1]
    norms = norms.double().reshape(len(scores), -1)
    size = mean_norm(norms, features)
    scale = math.sqrt(size / features)
    weight, scores = directions.double() * scale, scores.double() * scale
    bias = vertex_bias(scores, size * size / features)
    epsilon = RELATIVE_EPSILON * size
    distance = (norms + weight.square().sum(1) - 2 * scores).clamp_min(0)
    alpha, offset = standardisation((scores + bias).square() / (distance + epsilon))
    return FreshValues(weight, bias, epsilon, alpha, offset)


def mean_norm(norms: torch.Tensor, features: int) -> float:
    r"""Give :math:`E\lVert x \rVert^2`, or that of unit variance for inputs that are all zero.

    Args:
        norms: :math:`\lVert x \rVert^2`, of any shape.
        features: :math:`d`.
    """
    return float(norms.double().mean()) or float(features)


def vertex_bias(scores: torch.Tensor, isotropic: float) -> torch.Tensor:
    r"""Give :math:`c = \kappa \operatorname{std}(v \cdot x) - \operatorname{mean}(v \cdot x)`, [K].

    Args:
        scores: :math:`v \cdot x`, [n, K].
        isotropic: the variance that :math:`v \cdot x` has for equally long inputs in random directions,
            :math:`\lVert v \rVert^2 E\lVert x \rVert^2 / d`; it stands for the variance of the scores of a
            unit that gave nearly the same for all inputs.
    """
    scores = scores.double()
    deviation, expected = scores.std(0, correction=0), math.sqrt(isotropic)
    deviation = torch.where(deviation > _LEAST_SPREAD * expected, deviation, expected)
    return VERTEX * deviation - scores.mean(0)


def standardisation(outputs: torch.Tensor, *, per_unit: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Give the factor and the offset that bring outputs to zero mean and unit variance.

    Args:
        outputs: [n, K].
        per_unit: whether each unit has a factor of its own; otherwise all share the one that brings the mean
            of their variances to 1.

    Returns:
        The factor, [K] or [1], and the offset, [K]. Units that never vary keep the factor 1.
    """
    outputs = outputs.double()
    mean, variance = outputs.mean(0), outputs.var(0, correction=0)
    size = outputs.square().mean(0)
    if not per_unit:
        variance, size = variance.mean(0, keepdim=True), size.mean(0, keepdim=True)
    varies = variance > _LEAST_VARIATION**2 * size
    factor = torch.where(varies, variance, 1.0).rsqrt()
    return factor, -mean * factor


def inverse_softplus(value: torch.Tensor) -> torch.Tensor:
    """Give the numbers whose softplus is ``value``: log(eᵛ − 1), finite for large v too."""
    return value + value.neg().expm1().neg().log()

"""The Yat product of scores and squared norms that are already there."""

from __future__ import annotations

import torch

from bioconvert.functional.precision import narrowed, score_dtype
from bioconvert.functional.units import BiasMode, make_units
from bioconvert.functional.yat_formula import Coefficient, Terms, value


def yat(
    score: torch.Tensor,
    input_norm: torch.Tensor,
    weight_norm: torch.Tensor,
    bias: Coefficient | None = None,
    *,
    alpha: Coefficient | None = None,
    epsilon: Coefficient = 1e-5,
    offset: torch.Tensor | None = None,
    bias_mode: BiasMode = "pre",
    floor: float = 0.0,
) -> torch.Tensor:
    r"""Divide squared scores by squared distances, element by element.

    .. math::
        y = \alpha \, \frac{(t + b)^2}{\max(X + W - 2t, \; f (X + W)) + \varepsilon} + o

    Args:
        score: dot products :math:`t = w \cdot x`.
        input_norm: :math:`X = \lVert x \rVert^2`.
        weight_norm: :math:`W = \lVert w \rVert^2`.
        bias: :math:`b`; with ``bias_mode="post"`` it is added to the quotient, before :math:`\alpha`.
        alpha: :math:`\alpha`; ``None`` for 1.
        epsilon: :math:`\varepsilon`.
        offset: :math:`o`; ``None`` for 0.
        bias_mode: ``"pre"`` or ``"post"``.
        floor: :math:`f`; 0 says only that a squared distance is not negative.

    Shape:
        - Output: that of ``score``, with which every other tensor broadcasts.

    Raises:
        ValueError: an unknown ``bias_mode``.
    """
    dtype = score_dtype(score)
    units = make_units(bias, alpha, epsilon, offset, bias_mode).map(lambda unit: unit.to(dtype))
    terms = Terms(input_norm.to(dtype), weight_norm.to(dtype), *units)
    return narrowed(value(score.to(dtype), terms, floor), score.dtype)

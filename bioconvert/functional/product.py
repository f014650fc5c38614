"""The Yat product of scores and squared norms, element by element."""

from __future__ import annotations

import torch

from bioconvert.functional import yat_formula
from bioconvert.functional.eager import has_values, wants_plain_operations
from bioconvert.functional.precision import narrowed, score_dtype
from bioconvert.functional.units import BiasMode, units
from bioconvert.functional.yat_formula import Coefficient, Terms
from bioconvert.functional.yat_function import YatFunction


def yat(
    score: torch.Tensor,
    input_norm: torch.Tensor,
    weight_norm: torch.Tensor,
    bias: torch.Tensor | None = None,
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
        bias: :math:`b`; with ``bias_mode="post"`` it is added to the quotient instead, before :math:`\alpha`.
        alpha: :math:`\alpha`; ``None`` for 1.
        epsilon: :math:`\varepsilon`.
        offset: :math:`o`; ``None`` for 0.
        bias_mode: ``"pre"`` or ``"post"``.
        floor: :math:`f`; 0 only says that a squared distance is not negative.

    Shape:
        - Output: that of ``score``, with which every other tensor broadcasts.

    Raises:
        ValueError: an unknown ``bias_mode``.
    """
    dtype = score_dtype(score)
    of_units = units(bias, alpha, epsilon, offset, bias_mode).map(lambda unit: unit.to(dtype))
    terms = Terms(input_norm.to(dtype), weight_norm.to(dtype), *of_units)
    y, _ = product(score.to(dtype), terms, floor, look=False)
    return narrowed(y, score.dtype)


def product(
    score: torch.Tensor, terms: Terms, floor: float, *, look: bool = True
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Give the Yat product and, where it was asked for and costs little, each input's least denominator.

    Args:
        score: the scores.
        terms: what else enters the product.
        floor: smallest squared distance, in units of the squared norms.
        look: whether to look for inputs that lie near a weight.
    """
    if wants_plain_operations() or score.numel() == 0:
        return yat_formula.value(score, terms, floor), None
    look = look and score.dtype == torch.float32 and has_values(score)
    aligned = (_aligned(term, score.dim()) if isinstance(term, torch.Tensor) else term for term in terms)
    y, least = YatFunction.apply(floor, look, score.contiguous(), *aligned)  # type: ignore[no-untyped-call]
    return y, least


def _aligned(term: torch.Tensor, dims: int) -> torch.Tensor:
    return term[(None,) * (dims - term.dim())]

"""The Yat counterpart of a linear map."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from bioconvert.functional.cosine import on_sphere
from bioconvert.functional.near import with_exact
from bioconvert.functional.precision import narrowed, output_dtype, score_dtype, without_autocast
from bioconvert.functional.product import product
from bioconvert.functional.squared_norm import squared_norm
from bioconvert.functional.units import BiasMode, Units, units
from bioconvert.functional.yat_formula import Coefficient, Terms


def yat_linear(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    alpha: Coefficient | None = None,
    epsilon: Coefficient = 1e-5,
    offset: torch.Tensor | None = None,
    bias_mode: BiasMode = "pre",
    floor: float = 0.0,
    spherical: bool = False,
) -> torch.Tensor:
    r"""Score inputs by alignment with, and nearness to, each weight row.

    .. math::
        y_i = \alpha_i \, \frac{(w_i \cdot x + b_i)^2}{\lVert w_i - x \rVert^2 + \varepsilon_i} + o_i

    Half precision is computed in fp32. On the CPU, an input in fp32 that lies nearer a weight than fp32 can tell
    is computed in fp64.

    Args:
        x: inputs :math:`x`.
        weight: rows :math:`w_i`.
        bias: :math:`b_i`; with ``bias_mode="post"`` it is added to the quotient instead, before :math:`\alpha`.
        alpha: :math:`\alpha`, a number or a tensor of shape [1] or [K]; ``None`` for 1.
        epsilon: :math:`\varepsilon`, likewise.
        offset: :math:`o`; ``None`` for 0.
        bias_mode: ``"pre"`` or ``"post"``.
        floor: smallest squared distance, in units of :math:`\lVert x \rVert^2 + \lVert w_i \rVert^2`.
        spherical: whether to bring :math:`x` and :math:`w_i` to unit length first.

    Shape:
        - ``x``: :math:`(*, F)`, ``weight``: :math:`(K, F)`, ``bias`` and ``offset``: :math:`(K)`.
        - Output: :math:`(*, K)`, in the type of ``x``, or that of autocast.

    Raises:
        ValueError: an unknown ``bias_mode``.
    """
    of_units, dtype = units(bias, alpha, epsilon, offset, bias_mode), score_dtype(x)
    with without_autocast(x):
        rows = x.to(dtype).reshape(-1, x.shape[-1])
        y = _rows(rows, weight.to(dtype), of_units.map(lambda unit: unit.to(dtype)), floor, spherical)
    return narrowed(y.view(*x.shape[:-1], weight.shape[0]), output_dtype(x))


def _rows(
    x: torch.Tensor, weight: torch.Tensor, of_units: Units, floor: float, spherical: bool
) -> torch.Tensor:
    score, input_norm, weight_norm = F.linear(x, weight), squared_norm(x, 1), squared_norm(weight, 1).view(-1)
    if spherical:
        score, input_norm, weight_norm = on_sphere(score, input_norm, weight_norm)
    terms = Terms(input_norm, weight_norm, *of_units)
    y, least = product(score, terms, floor)

    def exact(near: torch.Tensor) -> torch.Tensor:
        return _rows(x[near].double(), weight.double(), of_units.map(torch.Tensor.double), floor, spherical)

    return with_exact(y, least, score, terms, floor, exact)

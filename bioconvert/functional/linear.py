"""The Yat counterpart of a linear map."""

from __future__ import annotations

import torch

from bioconvert.functional.geometry import Geometry
from bioconvert.functional.precision import narrowed, output_dtype, score_dtype, without_autocast
from bioconvert.functional.product import product
from bioconvert.functional.units import BiasMode, make_units
from bioconvert.functional.yat_formula import Coefficient


def yat_linear(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: Coefficient | None = None,
    *,
    alpha: Coefficient | None = None,
    epsilon: Coefficient = 1e-5,
    offset: torch.Tensor | None = None,
    bias_mode: BiasMode = "pre",
    floor: float = 0.0,
    spherical: bool = False,
    score: torch.Tensor | None = None,
) -> torch.Tensor:
    r"""Score inputs by how well they align with, and how near they lie to, each weight row.

    .. math::
        y_i = \alpha_i \, \frac{(w_i \cdot x + b_i)^2}{\lVert w_i - x \rVert^2 + \varepsilon_i} + o_i

    Half precision is computed in fp32. On the CPU, fp32 inputs that lie nearer a weight than fp32 can tell
    are computed in fp64.

    Args:
        x: inputs :math:`x`.
        weight: rows :math:`w_i`.
        bias: :math:`b_i`; with ``bias_mode="post"`` it is added to the quotient, before :math:`\alpha`.
        alpha: :math:`\alpha`, a number or a tensor of shape [1] or [K]; ``None`` for 1.
        epsilon: :math:`\varepsilon`, likewise.
        offset: :math:`o`; ``None`` for 0.
        bias_mode: ``"pre"`` or ``"post"``.
        floor: least squared distance, in units of :math:`\lVert x \rVert^2 + \lVert w_i \rVert^2`.
        spherical: whether to bring :math:`x` and :math:`w_i` to unit length first.
        score: :math:`w_i \cdot x`, where it is known already.

    Shape:
        - ``x``: :math:`(*, F)`, ``weight``: :math:`(K, F)`, ``bias`` and ``offset``: :math:`(K)`,
          ``score``: :math:`(*, K)`.
        - Output: :math:`(*, K)`, in the type of ``x``, or that of autocast.

    Raises:
        ValueError: an unknown ``bias_mode``.
    """
    dtype = score_dtype(x)
    with without_autocast(x):
        units = make_units(bias, alpha, epsilon, offset, bias_mode).map(lambda unit: unit.to(dtype))
        rows = x.to(dtype).reshape(-1, x.shape[-1])
        known = score.to(dtype).reshape(-1, weight.shape[0]) if score is not None else None
        y = product(Geometry(), floor, rows, weight.to(dtype), units, spherical=spherical, score=known)
    if x.dim() != 2:
        # As torch's own linear does it: nobody else has the rows, so that the result needn't be a view.
        y = torch.ops.aten._unsafe_view(y, (*x.shape[:-1], weight.shape[0]))
    return narrowed(y, output_dtype(x))

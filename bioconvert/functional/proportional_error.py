"""An error that is measured in proportion to the target, on a logarithmic scale."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch

from bioconvert.functional.precision import score_dtype

Reduction = Literal["mean", "sum", "none"]


def log_proportional_error(x: torch.Tensor, y: torch.Tensor, reduction: Reduction = "mean") -> torch.Tensor:
    r"""Compare logarithms, in proportion to the target's.

    .. math::
        \ell_i = \frac{|\log x'_i - \log y'_i|}{\log y'_i}, \qquad
        x' = x - m + e, \quad y' = y - m + e, \quad m = \min_j \min(x_j, y_j)

    The shift :math:`m`, the least number in both, counts as a constant in the derivative; but for that it is
    exact. Half precision is computed in fp32.

    Args:
        x: predictions :math:`x`.
        y: targets :math:`y`.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Shape:
        - x: any.
        - y: that of ``x``, or one that broadcasts with it.
        - Output: a single number; with ``reduction="none"``, the shape of ``x`` and ``y`` together.

    Raises:
        ValueError: an unknown ``reduction``.

    Example:
        >>> log_proportional_error(torch.tensor([0.0, 10.0]), torch.tensor([0.0, 5.0]), "none")
        tensor([0.0000, 0.2444])
    """
    if reduction not in get_args(Reduction):
        raise ValueError(f"reduction must be one of {', '.join(get_args(Reduction))}, got {reduction!r}")
    dtype = torch.promote_types(x.dtype, y.dtype)
    x, y = (each.to(dtype).to(score_dtype(each.to(dtype))) for each in (x, y))
    shift = math.e - torch.minimum(x.detach().amin(), y.detach().amin())
    shifted_x, shifted_y = x + shift, y + shift
    # |log a − log b|, of which nothing cancels where a is near b.
    difference = ((x - y).abs() / torch.minimum(shifted_x, shifted_y)).log1p()
    return _reduced(difference / shifted_y.log(), reduction).to(dtype)


def _reduced(error: torch.Tensor, reduction: Reduction) -> torch.Tensor:
    if reduction == "none":
        return error
    return error.mean() if reduction == "mean" else error.sum()

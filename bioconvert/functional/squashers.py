"""Functions that bring non-negative scores, such as Yat products, into a bounded range."""

from __future__ import annotations

import torch

from bioconvert.functional.precision import score_dtype


def softermax(x: torch.Tensor, n: float = 1.0, epsilon: float = 1e-12, dim: int = -1) -> torch.Tensor:
    r"""Share out 1 among non-negative scores, in proportion to a power of each.

    .. math::
        y_i = \frac{x_i^n}{\varepsilon + \sum_j x_j^n}

    Half precision is computed in fp32, and no power overflows.

    Args:
        x: scores :math:`x`; negative ones count as 0.
        n: :math:`n > 0`; the larger, the more goes to the largest. Below 1 the slope at 0, which is infinite,
            is taken as 0.
        epsilon: :math:`\varepsilon`; scores that are all 0 give 0.
        dim: the dimension along which the shares add up to 1.

    Shape:
        - Output: that of ``x``.

    Raises:
        ValueError: ``n`` or ``epsilon`` isn't positive.

    Example:
        >>> softermax(torch.tensor([1.0, 1.0, 2.0]))
        tensor([0.2500, 0.2500, 0.5000])
    """
    if not epsilon > 0:
        raise ValueError(f"epsilon must be positive, got {epsilon!r}")
    scores = _scores(x, n)
    # The shares are the same in whatever unit the scores are measured, which is hence a constant.
    largest = scores.detach().amax(dim, keepdim=True)
    unit = torch.where(largest > 0, largest, torch.ones_like(largest))
    powers = _power(scores / unit, n)
    return (powers / (epsilon * unit.pow(-n) + powers.sum(dim, keepdim=True))).to(x.dtype)


def softer_sigmoid(x: torch.Tensor, n: float = 1.0) -> torch.Tensor:
    r"""Bring non-negative scores into [0, 1); 1 goes to one half.

    .. math::
        y = \frac{x^n}{1 + x^n}

    Half precision is computed in fp32, and no power overflows.

    Args:
        x: scores :math:`x`; negative ones count as 0.
        n: :math:`n > 0`; the larger, the steeper at 1. Below 1 the slope at 0, which is infinite, is taken
            as 0.

    Shape:
        - Output: that of ``x``.

    Raises:
        ValueError: ``n`` isn't positive.

    Example:
        >>> softer_sigmoid(torch.tensor([0.0, 1.0, 3.0]))
        tensor([0.0000, 0.5000, 0.7500])
    """
    power, one = _powers(_scores(x, n), n)
    return (power / (power + one)).to(x.dtype)


def soft_tanh(x: torch.Tensor, n: float = 1.0) -> torch.Tensor:
    r"""Bring non-negative scores into [-1, 1); 1 goes to 0.

    .. math::
        y = \frac{x^n - 1}{x^n + 1}

    Half precision is computed in fp32, and no power overflows.

    Args:
        x: scores :math:`x`; negative ones count as 0.
        n: as for :func:`softer_sigmoid`.

    Shape:
        - Output: that of ``x``.

    Raises:
        ValueError: ``n`` isn't positive.

    Example:
        >>> soft_tanh(torch.tensor([0.0, 1.0, 3.0]))
        tensor([-1.0000,  0.0000,  0.5000])
    """
    power, one = _powers(_scores(x, n), n)
    return ((power - one) / (power + one)).to(x.dtype)


def _scores(x: torch.Tensor, n: float) -> torch.Tensor:
    """Give scores that are neither negative nor infinite, in the type to compute in."""
    if not n > 0:
        raise ValueError(f"n must be positive, got {n!r}")
    dtype = score_dtype(x)
    return x.to(dtype).clamp(0, torch.finfo(dtype).max)


def _powers(scores: torch.Tensor, n: float) -> tuple[torch.Tensor, torch.Tensor | float]:
    r"""Give :math:`x^n` and 1, both divided by the larger of the two."""
    if n == 1:
        return scores, 1.0
    unit = scores.detach().clamp(min=1)
    return _power(scores / unit, n), unit.pow(-n)


def _power(base: torch.Tensor, n: float) -> torch.Tensor:
    if n >= 1:
        return base.pow(n)
    positive = base > 0
    return torch.where(positive, torch.where(positive, base, torch.ones_like(base)).pow(n), 0)

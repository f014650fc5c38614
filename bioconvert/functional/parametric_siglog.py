"""The signed logarithm whose steepness is learnt."""

from __future__ import annotations

import math
from typing import Any

import torch

from bioconvert.functional.precision import score_dtype


def siglog_parametric(
    x: torch.Tensor,
    alpha: float | torch.Tensor = 1 / math.e,
    smoothing: float = 1e-3,
    smooth_grad: bool = False,
) -> torch.Tensor:
    r"""Compress a signal by a logarithm of adjustable steepness.

    .. math::
        f(x, \alpha) = \operatorname{sign}(x) \, (\log(|x| + e \alpha) - \log(e \alpha))

    .. math::
        \frac{\partial f}{\partial x} = \frac{1}{|x| + e \alpha}, \qquad
        \frac{\partial f}{\partial \alpha}
            = \operatorname{sign}(x) \, \Big(\frac{1}{|x| + e \alpha} - \frac{1}{e \alpha}\Big) \, e

    Both derivatives are exact, at :math:`x = 0` too; the second is summed to the shape of ``alpha``. Half
    precision is computed in fp32.

    Args:
        x: the signal :math:`x`.
        alpha: :math:`\alpha > 0`; the function is steepest at 0, with slope :math:`1 / (e \alpha)`. A tensor
            that expands to the shape of ``x`` is not checked.
        smoothing: :math:`h`.
        smooth_grad: whether the gradient of :math:`x` is the central difference
            :math:`(f(x + h, \alpha) - f(x - h, \alpha)) / 2h` instead.

    Shape:
        - Output: that of ``x``.

    Raises:
        ValueError: ``alpha`` or ``smoothing`` isn't positive.

    Example:
        >>> siglog_parametric(torch.tensor([-9.0, 0.0, 9.0]))
        tensor([-2.3026,  0.0000,  2.3026])
    """
    if not isinstance(alpha, torch.Tensor):
        if not alpha > 0:
            raise ValueError(f"alpha must be positive, got {alpha!r}")
        alpha = torch.full((), alpha, dtype=score_dtype(x), device=x.device)
    if not smoothing > 0:
        raise ValueError(f"smoothing must be positive, got {smoothing!r}")
    step = smoothing if smooth_grad else None
    y: torch.Tensor = _SiglogParametric.apply(x, alpha.expand_as(x), step)  # type: ignore[no-untyped-call]
    return y


class _SiglogParametric(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: torch.Tensor, alpha: torch.Tensor, step: float | None) -> torch.Tensor:  # noqa: ARG004
        wide, scale = _wide(x, alpha)
        return ((wide.abs() / scale).log1p() * wide.sign()).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:  # noqa: ARG004
        x, alpha, ctx.step = inputs
        ctx.save_for_backward(x, alpha)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        x, alpha = ctx.saved_tensors
        wide, scale = _wide(x, alpha)
        slope = 1 / (wide.abs() + scale)
        by_x = by_alpha = None
        if ctx.needs_input_grad[0]:
            steepness = slope if ctx.step is None else _central_difference(wide.abs(), scale, ctx.step)
            by_x = (grad * steepness).to(x.dtype)
        if ctx.needs_input_grad[1]:
            # The difference of the reciprocals, brought to one fraction.
            by_alpha = (grad * -math.e * wide * slope / scale).to(alpha.dtype)
        return by_x, by_alpha, None


def _wide(x: torch.Tensor, alpha: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Give :math:`x` and :math:`e \alpha` in the type to compute in."""
    dtype = score_dtype(x)
    return x.to(dtype), alpha.to(dtype) * math.e


def _central_difference(size: torch.Tensor, scale: torch.Tensor, step: float) -> torch.Tensor:
    r"""Give the difference quotient as one logarithm, of which nothing cancels."""
    above, below = (size + step) / scale, (size - step).abs() / scale
    both = 2 * step / scale
    change = torch.where(size < step, both + above * below, both / (1 + below))
    return change.log1p() / (2 * step)

"""Functions that keep signals and their gradients in range."""

from __future__ import annotations

import math
from typing import Any

import torch

from bioconvert.functional.precision import score_dtype

_SHIFT = 1e-4


def backward_gradient_normalization(x: torch.Tensor, eps: float = 1e-6) -> torch.Tensor:
    r"""Give the input as it is; in the backward pass, bring the gradient of each sample to unit mean square.

    .. math::
        y = x, \qquad
        \bar x_b = \bar y_b \, \frac{\sqrt n}{\lVert \bar y_b \rVert_2 + \varepsilon}

    The output shares the input's memory; nothing is kept for the backward pass. As with other views that a
    custom function returns, autograd refuses to change it in place.

    Args:
        x: samples :math:`x_b` along the first dimension, of :math:`n` elements each; what has fewer than two
            dimensions is one sample.
        eps: :math:`\varepsilon`; a gradient of zero stays zero.

    Shape:
        - Output: that of ``x``.

    Raises:
        ValueError: ``eps`` isn't positive.

    Reference:
        Cabana & Lago-Fernández, *Backward Gradient Normalization in Deep Neural Networks*,
        https://arxiv.org/abs/2106.09475

    Example:
        >>> x = torch.zeros(2, 4, requires_grad=True)
        >>> (5 * backward_gradient_normalization(x)).sum().backward()
        >>> x.grad[0]
        tensor([1.0000, 1.0000, 1.0000, 1.0000])
    """
    if not eps > 0:
        raise ValueError(f"eps must be positive, got {eps!r}")
    normalized: torch.Tensor = _Normalized.apply(x, eps)  # type: ignore[no-untyped-call]
    return normalized


def siglog(x: torch.Tensor) -> torch.Tensor:
    r"""Compress a signal by its logarithm, with a gradient that is shaped on its own.

    .. math::
        y = \operatorname{sign}(x) \, (\log(|x| + e + 10^{-4}) - 1), \qquad
        \bar x = \frac{\bar y}{|x|^p + 1}, \quad
        p = \begin{cases} 1 + \sqrt{|x|} & |x| < 1 \\ 1 & \text{otherwise} \end{cases}

    :math:`\operatorname{sign}(0) = 0`, so that 0 goes to 0 and the function is odd; on either side of 0 it
    jumps to :math:`\pm 3.7 \cdot 10^{-5}`. The gradient is deliberately not the derivative: it is that of a
    function which is steeper near 0. Its own derivative is exact, and finite everywhere. Half precision is
    computed in fp32; only the input is kept for the backward pass.

    Args:
        x: the signal :math:`x`.

    Shape:
        - Output: that of ``x``.

    Example:
        >>> siglog(torch.tensor([-10.0, 0.0, 10.0]))
        tensor([-1.5430,  0.0000,  1.5430])
    """
    y: torch.Tensor = _Siglog.apply(x)  # type: ignore[no-untyped-call]
    return y


class _Normalized(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: torch.Tensor, eps: float) -> torch.Tensor:  # noqa: ARG004 - for the backward pass
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:  # noqa: ARG004
        ctx.eps = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        return normalized_by_sample(grad, ctx.eps), None


class _Siglog(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: torch.Tensor) -> torch.Tensor:
        return siglog_value(x.to(score_dtype(x))).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        by_x: torch.Tensor = (grad * siglog_slope(x.to(score_dtype(x)))).to(x.dtype)
        return by_x


def siglog_value(x: torch.Tensor) -> torch.Tensor:
    """Give the value of :func:`siglog`, in the type of ``x`` and without a gradient."""
    # log(|x| + δ + e) − 1 without its cancellation, and scale and shift in one pass.
    size = torch.rsub(x.abs(), _SHIFT / math.e, alpha=-1 / math.e)
    return size.log1p_().mul_(x.sign())


def siglog_slope(x: torch.Tensor) -> torch.Tensor:
    """Give the slope that :func:`siglog` declares, in the type of ``x``."""
    size = x.abs()
    # |x|^p = |x| · exp(√c · log c) with c = min(|x|, 1); from a number above 0, as √ is too steep there.
    base = size.clamp(torch.finfo(size.dtype).tiny, 1)
    root = base.sqrt()
    if torch.is_grad_enabled():
        return ((base.log() * root).exp() * size + 1).reciprocal()
    # Nobody will differentiate it: in place, as fresh memory takes longer than the arithmetic (measured).
    return base.log_().mul_(root).exp_().mul_(size).add_(1).reciprocal_()


def normalized_by_sample(grad: torch.Tensor, eps: float) -> torch.Tensor:
    """Give each sample of a gradient, along the first dimension, a mean square of 1.

    Args:
        grad: the gradient; with fewer than two dimensions, that of one sample.
        eps: added to the norm of each sample.
    """
    normalized: torch.Tensor = (grad * unit_scale(grad, eps)).to(grad.dtype)
    return normalized


def unit_scale(grad: torch.Tensor, eps: float = 1e-6) -> torch.Tensor:
    """Give the factors that :func:`normalized_by_sample` multiplies by, in at least fp32."""
    first = 1 if grad.dim() > 1 else 0
    dims = tuple(range(first, grad.dim()))
    norm = torch.linalg.vector_norm(grad, dim=dims, keepdim=True, dtype=score_dtype(grad))
    scale: torch.Tensor = math.sqrt(math.prod(grad.shape[first:])) / (norm + eps)
    return scale

"""What the composers read from a context: a linear map whose one half gates the other."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch.autograd import Function
from torch.nn import functional as F

from bioconvert.functional.eager import wants_plain_operations
from bioconvert.functional.recomputation import recomputed, wants_recomputation
from bioconvert.functional.signals import (
    backward_gradient_normalization,
    siglog,
    siglog_slope,
    siglog_value,
    unit_scale,
)


def gated_context(
    context: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, *, normalized: bool = False
) -> torch.Tensor:
    r"""Map contexts linearly, and multiply the first half by the compressed second.

    .. math::
        t = W c + b, \qquad y = t_{1 \dots n} \cdot \operatorname{siglog}(t_{n+1 \dots 2n})

    Args:
        context: :math:`c`.
        weight: :math:`W`.
        bias: :math:`b`.
        normalized: whether the gradient of :math:`t` is normalised (see
            :func:`backward_gradient_normalization`).

    Shape:
        - ``context``: :math:`(B, L)`, ``weight``: :math:`(2n, L)`, ``bias``: :math:`(2n)`.
        - Output: :math:`(B, n)`.

    Raises:
        ValueError: the contexts are not one vector of length :math:`L` for each sample.
    """
    if context.dim() != 2 or context.shape[1] != weight.shape[1]:
        raise ValueError(f"context must have the shape [batch, {weight.shape[1]}], got {[*context.shape]}")
    if wants_plain_operations((context, weight, bias)):
        return _plain(context, weight, bias, normalized)
    gated: torch.Tensor = _GatedContext.apply(context, weight, bias, normalized)  # type: ignore[no-untyped-call]
    return gated


def _plain(context: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, normalized: bool) -> torch.Tensor:
    mapped = F.linear(context, weight, bias)
    if normalized:
        mapped = backward_gradient_normalization(mapped)
    value, gate = mapped.chunk(2, dim=-1)
    return value * siglog(gate)


class _GatedContext(Function):
    """All in one: each operation on so few numbers costs next to nothing but its call."""

    @staticmethod
    def forward(
        ctx: Any, context: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, normalized: bool
    ) -> torch.Tensor:
        mapped = F.linear(context, weight, bias)
        value, gate = mapped.chunk(2, dim=-1)
        squashed = siglog_value(gate)
        ctx.save_for_backward(context, weight, bias, mapped, squashed)
        ctx.normalized = normalized
        return value * squashed

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[torch.Tensor | None, ...]:
        *operands, mapped, squashed = ctx.saved_tensors
        if wants_recomputation(grads):
            return *recomputed(partial(_plain, normalized=ctx.normalized), operands, grads), None
        context, weight, _ = operands
        value, gate = mapped.chunk(2, dim=-1)
        by_mapped = torch.cat([grads[0] * squashed, siglog_slope(gate).mul_(value).mul_(grads[0])], dim=1)
        if ctx.normalized:
            by_mapped.mul_(unit_scale(by_mapped))
        by_context = by_mapped @ weight if ctx.needs_input_grad[0] else None
        return by_context, by_mapped.t() @ context, by_mapped.sum(0), None

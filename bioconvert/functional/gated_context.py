"""What the composers read from a context: a linear map whose one half gates the other."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from bioconvert.functional.signals import backward_gradient_normalization, siglog


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
    mapped = F.linear(context, weight, bias)
    if normalized:
        mapped = backward_gradient_normalization(mapped)
    value, gate = mapped.chunk(2, dim=-1)
    return value * siglog(gate)

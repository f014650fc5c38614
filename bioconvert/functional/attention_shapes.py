"""Queries, keys, values and what belongs to them, brought into four dimensions."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from bioconvert.functional.yat_formula import Coefficient

_LEAST_NORM = 1e-12
"""Squared norm below which a vector counts as zero, which no scaling brings to unit length."""


class Heads(NamedTuple):
    """The operands of attention over :math:`(N, h)` heads, and the dimensions that these came from.

    Args:
        q: queries :math:`(N, h, L, d)`.
        k: keys :math:`(N, h, S, d)`.
        v: values :math:`(N, h, S, d_v)`.
        mask: added to the logits, in four dimensions that broadcast; or ``None``.
        alpha: factor, a number or :math:`(1, h, 1, 1)`; ``None`` for 1.
        epsilon: added to the squared distance, likewise.
        lead: the leading dimensions of the output.
    """

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    mask: torch.Tensor | None
    alpha: Coefficient | None
    epsilon: Coefficient
    lead: torch.Size


def heads_of(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None,
    alpha: Coefficient | None,
    epsilon: Coefficient,
    *,
    spherical: bool,
) -> Heads:
    """Bring operands of any leading dimensions into four dimensions.

    Raises:
        ValueError: shapes don't fit.
        TypeError: the mask is neither boolean nor floating.
    """
    if q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        shapes = ", ".join(str(tuple(each.shape)) for each in (q, k, v))
        raise ValueError(f"q, k and v must have the shapes (*, L, d), (*, S, d) and (*, S, dv), got {shapes}")
    lead = torch.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])  # type: ignore[no-untyped-call]
    q, k = (unit(q), unit(k)) if spherical else (q, k)
    q, k, v = (_in_four(each.expand(*lead, *each.shape[-2:])).contiguous() for each in (q, k, v))
    pairs = (*lead, q.shape[-2], k.shape[-2])
    mask = None if mask is None else _in_four(_spread_mask(mask, pairs, q))
    factor = None if alpha is None else _for_heads(alpha, q)
    return Heads(q, k, v, mask, factor, _for_heads(epsilon, q), lead)


def unit(x: torch.Tensor) -> torch.Tensor:
    """Bring the last dimension to unit length; zero stays zero."""
    return x * x.square().sum(-1, keepdim=True).clamp(min=_LEAST_NORM).rsqrt()


def _in_four(x: torch.Tensor) -> torch.Tensor:
    """Make two dimensions of the leading ones: the last, and all before it."""
    if x.dim() > 4:
        return x.flatten(0, -4)
    return x[(None,) * (4 - x.dim())]


def _spread_mask(mask: torch.Tensor, pairs: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    """Give a mask as something to add, with as many dimensions as the logits."""
    if mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=like.dtype).masked_fill_(~mask, -math.inf)
    if not mask.is_floating_point():
        raise TypeError(f"mask must be boolean or floating, got {mask.dtype}")
    fits = mask.dim() <= len(pairs) and all(
        own in (1, size) for own, size in zip(reversed(mask.shape), reversed(pairs), strict=False)
    )
    if not fits:
        raise ValueError(f"mask must broadcast with {tuple(pairs)}, got {tuple(mask.shape)}")
    mask = mask.to(like.dtype)[(None,) * (len(pairs) - mask.dim())]
    batches = len(pairs) - 3
    return mask.expand(*pairs[:batches], *mask.shape[batches:]) if batches > 1 else mask


def _for_heads(coefficient: Coefficient, like: torch.Tensor) -> Coefficient:
    if not isinstance(coefficient, torch.Tensor):
        return coefficient
    return coefficient.to(like.dtype).reshape(1, -1, 1, 1)

"""Scaled Yat attention: a softmax over Yat products of queries and keys."""

from __future__ import annotations

import math

import torch

from bioconvert.functional.attention_dropout import make_draw
from bioconvert.functional.attention_formula import Scoring, causal_mask, plain_attention
from bioconvert.functional.attention_fused import FusedAttention, Manner
from bioconvert.functional.attention_near import NEAR
from bioconvert.functional.attention_shapes import Heads, heads_of
from bioconvert.functional.attention_tiles import tiling
from bioconvert.functional.eager import is_recorded, wants_plain_operations
from bioconvert.functional.precision import narrowed, output_dtype, score_dtype, without_autocast
from bioconvert.functional.yat_formula import Coefficient


def yat_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None = None,
    *,
    alpha: Coefficient | None = None,
    epsilon: Coefficient = 1e-5,
    spherical: bool = False,
    floor: float = 0.0,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    block_size: int | None = None,
    need_weights: bool = False,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    r"""Average values by how well queries align with, and how near they lie to, the values' keys.

    .. math::
        y_i = \sum_j \operatorname{softmax}_j\!\left(
            \frac{\alpha \, c \, (q_i \cdot k_j)^2}{\lVert q_i - k_j \rVert^2 + \varepsilon} + M_{ij}
        \right) v_j

    A query from which every key is hidden gives zeros. Half precision is computed in fp32. On the CPU, the
    distance of a query and a key that lie nearer each other than fp32 can tell from their norms is taken from
    their difference.

    Args:
        q: queries :math:`q_i`.
        k: keys :math:`k_j`.
        v: values :math:`v_j`.
        mask: :math:`M`, or as booleans which keys a query attends to.
        alpha: :math:`\alpha`, a number or a tensor of one number or one for each head; ``None`` for 1.
        epsilon: :math:`\varepsilon`, likewise.
        spherical: whether to bring :math:`q_i` and :math:`k_j` to unit length first.
        floor: least squared distance, in units of :math:`\lVert q_i \rVert^2 + \lVert k_j \rVert^2`.
        dropout_p: probability that a weight is dropped.
        is_causal: whether query :math:`i` attends to no key behind the i-th.
        scale: :math:`c`, a positive number; ``None`` for :math:`1 / \sqrt d`.
        block_size: number of queries and keys that are treated at once: the memory it takes grows with
            :math:`L + S` alone, and backward computes the products again. ``None`` keeps :math:`L S` of them.
        need_weights: whether to give the weights too, all :math:`L S` of them and after dropout, whatever
            the ``block_size``.

    Shape:
        - ``q``: :math:`(*, L, d)`, ``k``: :math:`(*, S, d)`, ``v``: :math:`(*, S, d_v)`; the last dimension
          of :math:`*` is that of the heads.
        - ``mask``: broadcasts with :math:`(*, L, S)`.
        - Output: :math:`(*, L, d_v)` in the type of ``q``, or that of autocast; and weights
          :math:`(*, L, S)`.

    Raises:
        ValueError: shapes don't fit, or a number is out of its bounds.
        TypeError: the mask is neither boolean nor floating.

    Reference:
        Bouhsine, *Deep Learning 2.0: Artificial Neurons that Matter*, https://arxiv.org/abs/2411.08085

    Example:
        >>> q, k, v = torch.randn(2, 4, 5, 8), torch.randn(2, 4, 7, 8), torch.randn(2, 4, 7, 6)
        >>> yat_attention(q, k, v).shape
        torch.Size([2, 4, 5, 6])
    """
    _check(floor, dropout_p, scale, block_size)
    dtype = score_dtype(q)
    with without_autocast(q):
        heads = heads_of(q.to(dtype), k.to(dtype), v.to(dtype), mask, alpha, epsilon, spherical=spherical)
        scale = scale if scale is not None else 1 / math.sqrt(max(1, q.shape[-1]))
        scoring = Scoring(heads.alpha, heads.epsilon, scale, floor)
        block_size = None if need_weights else block_size
        out, weights = _attended(heads, scoring, dropout_p, is_causal, block_size, need_weights)
    out = narrowed(out.reshape(*heads.lead, *out.shape[2:]), output_dtype(q))
    if not need_weights:
        return out
    assert weights is not None
    return out, narrowed(weights.reshape(*heads.lead, *weights.shape[2:]), output_dtype(q))


def _attended(
    heads: Heads, scoring: Scoring, dropout: float, causal: bool, block_size: int | None, weights: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Attend, in plain operations or tile by tile."""
    operands = heads[:6]
    given = [each for each in operands if isinstance(each, torch.Tensor)]
    q, k, v, mask = operands[:4]
    if _goes_plain(given) or scoring.floor > NEAR:
        if causal:
            hidden = causal_mask(q.shape[2], k.shape[2], q)
            mask = hidden if mask is None else mask + hidden
        return plain_attention(q, k, v, mask, scoring, _dropped(q, k, dropout))
    cut = tiling(q, k, block_size)
    keep = block_size is None and torch.is_grad_enabled() and any(each.requires_grad for each in given)
    how = Manner(cut, scoring.scale, scoring.floor, causal, make_draw(dropout), keep, weights)
    return FusedAttention.apply(how, *operands)  # type: ignore[no-any-return, no-untyped-call]


def _goes_plain(tensors: list[torch.Tensor]) -> bool:
    """Say whether there are no values, none that can be looked at, or none that may be written to."""
    return (
        wants_plain_operations(tensors)
        or is_recorded()
        or any(each.is_meta or each.numel() == 0 for each in tensors)
    )


def _dropped(q: torch.Tensor, k: torch.Tensor, probability: float) -> torch.Tensor | None:
    """Draw what dropout multiplies every weight by."""
    if not probability:
        return None
    ones = q.new_ones(*q.shape[:3], k.shape[2])
    return torch.nn.functional.dropout(ones, probability)


def _check(floor: float, dropout: float, scale: float | None, block_size: int | None) -> None:
    if not floor >= 0:
        raise ValueError(f"floor must not be negative, got {floor}")
    if not 0 <= dropout <= 1:
        raise ValueError(f"dropout_p must be in [0, 1], got {dropout}")
    if scale is not None and not scale > 0:
        raise ValueError(f"scale must be positive, got {scale}")
    if block_size is not None and block_size < 1:
        raise ValueError(f"block_size must be positive, got {block_size}")

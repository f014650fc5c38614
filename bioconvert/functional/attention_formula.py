"""Yat attention in plain differentiable operations: its definition, for graphs, compilers and transforms."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from bioconvert.functional.yat_formula import Coefficient, Terms, value


class Scoring(NamedTuple):
    r"""What makes the logits :math:`\alpha c\, t^2 / D` of scores and norms.

    Args:
        alpha: :math:`\alpha`, a number or a tensor :math:`(1, h, 1, 1)`; ``None`` for 1.
        epsilon: :math:`\varepsilon`, likewise.
        scale: :math:`c`.
        floor: least squared distance, in units of the squared norms.
    """

    alpha: Coefficient | None
    epsilon: Coefficient
    scale: float
    floor: float


def plain_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None,
    scoring: Scoring,
    kept: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend, and give the weights too.

    Args:
        q: queries :math:`(N, h, L, d)`.
        k: keys :math:`(N, h, S, d)`.
        v: values :math:`(N, h, S, d_v)`.
        mask: added to the logits, with which it broadcasts.
        scoring: makes the logits.
        kept: what dropout multiplies the weights by.
    """
    norms = q.square().sum(-1, keepdim=True), k.square().sum(-1)[..., None, :]
    terms = Terms(*norms, None, scoring.alpha, scoring.epsilon, None)
    logits = value(q @ k.transpose(-2, -1), terms, scoring.floor) * scoring.scale
    weights = torch.softmax(logits, dim=-1) if mask is None else masked_softmax(logits + mask)
    weights = weights if kept is None else weights * kept
    return weights @ v, weights


def masked_softmax(logits: torch.Tensor) -> torch.Tensor:
    r"""Give the softmax over the last dimension; zeros where every logit is :math:`-\infty`."""
    hidden = (logits == -math.inf).all(-1, keepdim=True)
    weights = torch.softmax(torch.where(hidden, 0.0, logits), dim=-1)
    return torch.where(hidden, 0.0, weights)


def causal_mask(queries: int, keys: int, like: torch.Tensor) -> torch.Tensor:
    r"""Give what hides from query :math:`i` every key behind the i-th: :math:`-\infty`, elsewhere 0."""
    return torch.full((queries, keys), -math.inf, dtype=like.dtype, device=like.device).triu(1)

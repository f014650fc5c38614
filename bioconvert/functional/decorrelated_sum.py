"""The weighted sum of signals that push each other apart, without making those that were pushed."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch.autograd import Function

from bioconvert.functional.eager import wants_plain_operations
from bioconvert.functional.recomputation import recomputed, wants_recomputation
from bioconvert.functional.signals import backward_gradient_normalization

_EPSILON = 1e-6
"""What is added to the norm of a gradient that is normalised."""


class Strengths(NamedTuple):
    """How strongly similar signals are treated.

    Args:
        repulsion: :math:`\\kappa`, how far they are pushed apart.
        similarity: :math:`\\lambda`, what of the gradient of their similarity is added.
    """

    repulsion: float
    similarity: float


def decorrelated_sum(
    signals: torch.Tensor, shares: torch.Tensor, strengths: Strengths
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Sum signals with given shares, each less what the others have in common with it.

    .. math::
        S = V V^\top - \operatorname{diag}(V V^\top), \qquad
        W_r = V_r - \frac{\kappa}{\sqrt R (R - 1)} \sum_s S_{rs} V_s
            + \frac{\lambda}{R - 1} \sum_s \bigl(|S_{rs}| - |S_{rs}|\bigr), \qquad
        y = \sum_r \rho_r W_r

    The second :math:`|S_{rs}|` is a constant, so that the last term has a gradient and no value. The gradient
    of the :math:`V_s` that stands beside :math:`S_{rs}` is normalised by sample (see
    :func:`backward_gradient_normalization`).

    Args:
        signals: :math:`V`.
        shares: :math:`\rho`.
        strengths: :math:`\kappa` and :math:`\lambda`.

    Shape:
        - ``signals``: :math:`(B, R, N)`, ``shares``: :math:`(B, R)`.
        - Output: :math:`(B, N)`, and the standard deviations of the :math:`W_r`, a constant,
          :math:`(B, R)`.
    """
    ranks = signals.shape[1]
    if ranks == 1:
        return shares * signals[:, 0], signals.detach().std(-1)
    scaled = Strengths(
        strengths.repulsion / (math.sqrt(ranks) * (ranks - 1)), strengths.similarity / (ranks - 1)
    )
    if wants_plain_operations((signals, shares)):
        total, products = plain_sum(signals, shares, scaled)
    else:
        total, products = _DecorrelatedSum.apply(signals, shares, scaled)  # type: ignore[no-untyped-call]
    return total, _deviations(signals.detach(), products.detach(), scaled.repulsion)


def plain_sum(
    signals: torch.Tensor, shares: torch.Tensor, strengths: Strengths
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give the sum and the products of the signals, in operations that can be differentiated."""
    products = torch.bmm(signals, signals.transpose(1, 2))
    similarity = _without_diagonal(products)
    penalty = strengths.similarity * similarity.abs().sum(-1, keepdim=True)
    shares = shares.unsqueeze(1)
    pushed = torch.bmm(torch.bmm(shares, similarity), backward_gradient_normalization(signals))
    unseen = torch.bmm(shares, penalty - penalty.detach())
    return (torch.bmm(shares, signals) - strengths.repulsion * pushed + unseen).squeeze(1), products


class _DecorrelatedSum(Function):
    """Keeps signals, shares and products; the plain operations serve a backward with a graph of its own."""

    @staticmethod
    def forward(
        ctx: Any, signals: torch.Tensor, shares: torch.Tensor, strengths: Strengths
    ) -> tuple[torch.Tensor, torch.Tensor]:
        products = torch.bmm(signals, signals.transpose(1, 2))
        taken = torch.bmm(shares.unsqueeze(1), _similarity(products)).mul_(-strengths.repulsion)
        ctx.save_for_backward(signals, shares, products)
        ctx.strengths = strengths
        ctx.mark_non_differentiable(products)
        return torch.bmm(taken.add_(shares.unsqueeze(1)), signals).squeeze(1), products

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[torch.Tensor | None, ...]:
        signals, shares, products = ctx.saved_tensors
        grad, strengths = grads[0], ctx.strengths
        if wants_recomputation(grads[:1]):
            found = recomputed(
                lambda v, share: plain_sum(v, share, strengths)[0], (signals, shares), grads[:1]
            )
            return *found, None
        similarity = _similarity(products)
        # The row times the matrix, which is far faster than the matrix times the column.
        along = torch.bmm(grad.unsqueeze(1), signals.mT).mT
        by_shares = along.squeeze(2) - strengths.repulsion * torch.bmm(similarity, along).squeeze(2)
        # The penalty reaches every element, the repulsion those of the other signals.
        by_penalty = similarity.sign() * (strengths.similarity * grad.sum(1)).view(-1, 1, 1)
        by_products = (by_penalty - strengths.repulsion * along.transpose(1, 2)) * shares.unsqueeze(2)
        by_products.diagonal(dim1=1, dim2=2).zero_()
        factors = shares + _normalized(shares, similarity, strengths.repulsion, grad, signals[0].numel())
        by_signals = torch.bmm(by_products + by_products.transpose(1, 2), signals)
        return by_signals.baddbmm_(factors.unsqueeze(2), grad.unsqueeze(1)), by_shares, None


def _normalized(
    shares: torch.Tensor, similarity: torch.Tensor, repulsion: float, grad: torch.Tensor, count: int
) -> torch.Tensor:
    """Give the factors of ``grad`` that its normalised repulsion has in the gradient of each signal."""
    factors = torch.bmm(shares.unsqueeze(1), similarity).squeeze(1) * -repulsion
    norm = torch.linalg.vector_norm(factors, dim=1, keepdim=True)
    norm = norm * torch.linalg.vector_norm(grad, dim=1, keepdim=True)
    scale: torch.Tensor = math.sqrt(count) / (norm + _EPSILON)
    return factors * scale


def _similarity(products: torch.Tensor) -> torch.Tensor:
    """Give what :func:`_without_diagonal` does, in fewer operations."""
    similarity = products.clone()
    similarity.diagonal(dim1=1, dim2=2).zero_()
    return similarity


def _without_diagonal(products: torch.Tensor) -> torch.Tensor:
    diagonal = torch.eye(products.shape[-1], dtype=products.dtype, device=products.device)
    return products * (1 - diagonal)


@torch.no_grad()
def _deviations(signals: torch.Tensor, products: torch.Tensor, repulsion: float) -> torch.Tensor:
    """Give the standard deviations of the decorrelated signals, from moments alone."""
    count = signals.shape[-1]
    means = signals.mean(-1, keepdim=True)
    centred = products - count * means * means.transpose(1, 2)
    pushed = products * -repulsion
    pushed.diagonal(dim1=1, dim2=2).fill_(1)
    variances = ((pushed @ centred) * pushed).sum(-1) / max(count - 1, 1)
    return variances.clamp_min(0).sqrt()

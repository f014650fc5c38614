"""What a Delta composition reads from a gated context: how to mix the banks, and the share of each rank."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import Function
from torch.nn import functional as F

from bioconvert.functional.complex_pairs import pair_matrix, pair_product
from bioconvert.functional.eager import wants_plain_operations
from bioconvert.functional.recomputation import recomputed, wants_recomputation
from bioconvert.functional.signals import (
    backward_gradient_normalization,
    siglog,
    siglog_slope,
    siglog_value,
    unit_scale,
)

_NEUTRAL = [[[0.5, 0.0]], [[0.0, 0.0]], [[1.0, 0.0]]]
"""What is added to lerp, bias and scale: the mean of both banks as it is."""


def rank_mixing(gates: torch.Tensor, temperature: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Give real matrices that mix, scale and shift two complex banks, and the shares of the ranks.

    With complex :math:`\lambda, \nu, \mu`, in that order, for each rank and each of two components, and one
    logit for each rank and for a drain:

    .. math::
        u = \mu \, ((\tfrac12 + \lambda) B + (\tfrac12 - \lambda) A) + \nu, \qquad
        \rho = \operatorname{softmax}(\operatorname{siglog}((\text{logits} + \delta) / \tau))

    with :math:`\mu` shifted by 1, and :math:`\delta` zero but for the drain, where it is :math:`1 / \sqrt R`.
    The gradient of :math:`\rho` is normalised (see :func:`backward_gradient_normalization`), and that of its
    entropy added to it.

    Args:
        gates: the gated context.
        temperature: :math:`\tau`.

    Shape:
        - ``gates``: :math:`(B, 13 R + 1)`, ``temperature``: :math:`(1)`.
        - Outputs: :math:`(R, 2, B, 2, 5)`, the columns for real and imaginary part of :math:`A` and of
          :math:`B`, and for the bias; and :math:`(B, R)`, without the share of the drain.
    """
    if wants_plain_operations((gates, temperature)):
        return plain_mixing(gates, temperature)
    mixing: tuple[torch.Tensor, torch.Tensor] = _RankMixing.apply(gates, temperature)  # type: ignore[no-untyped-call]
    return mixing


def plain_mixing(gates: torch.Tensor, temperature: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Give what :func:`rank_mixing` does, in operations that can be differentiated and transformed."""
    mixing, logits = _parted(gates)
    shares = backward_gradient_normalization(siglog(_drained(logits) / temperature).softmax(-1))
    entropy: torch.Tensor = torch.special.entr(shares).sum(-1, keepdim=True)
    return _matrices(*mixing), (shares + (entropy - entropy.detach()))[:, :-1]


class _RankMixing(Function):
    """All in one: each operation on so few numbers costs next to nothing but its call."""

    @staticmethod
    def forward(
        ctx: Any, gates: torch.Tensor, temperature: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        mixing, logits = _parted(gates)
        scaled = _drained(logits) / temperature
        shares = siglog_value(scaled).softmax(-1)
        ctx.save_for_backward(gates, temperature, scaled, shares)
        return _fused_matrices(*mixing), shares[:, :-1]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[torch.Tensor | None, ...]:
        gates, temperature, scaled, shares = ctx.saved_tensors
        if wants_recomputation(grads):
            return recomputed(plain_mixing, (gates, temperature), grads)
        by_matrices, by_shares = grads
        by_scaled = _leave_shares(by_shares, shares).mul_(siglog_slope(scaled))
        by_temperature = -(by_scaled * scaled).sum().div(temperature)
        by_mixing = _leave_matrices(by_matrices, *_parted(gates)[0][::2])
        return torch.cat([by_mixing, by_scaled.div_(temperature)], dim=1), by_temperature


def _parted(gates: torch.Tensor) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
    """Give lerp, bias and scale, [B, R, 2, 2], and the logits."""
    ranks = gates.shape[1] // 13
    mixing = torch.unflatten(gates[:, : 12 * ranks], -1, (ranks, 3, 2, 2)) + gates.new_tensor(_NEUTRAL)
    return mixing.unbind(2), gates[:, 12 * ranks :]


def _drained(logits: torch.Tensor) -> torch.Tensor:
    ranks = logits.shape[-1] - 1
    return logits + F.pad(logits.new_full((1,), ranks**-0.5), (ranks, 0))


def _matrices(lerp: torch.Tensor, bias: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    of_second = pair_product(scale, lerp)
    factors = pair_matrix(torch.stack([scale - of_second, of_second], dim=-2))
    matrices = torch.cat([factors.transpose(-2, -3).flatten(-2), bias.unsqueeze(-1)], dim=-1)
    return matrices.permute(1, 2, 0, 3, 4)


def _fused_matrices(lerp: torch.Tensor, bias: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Give what :func:`_matrices` does, in fewer operations on complex numbers."""
    factor = torch.view_as_complex(scale)
    of_second = factor * torch.view_as_complex(lerp)
    conjugates = torch.stack([factor - of_second, of_second], dim=-1).conj_physical_()
    rows = torch.view_as_real(torch.stack([conjugates, 1j * conjugates], dim=-2))
    return torch.cat([rows.flatten(-2), bias.unsqueeze(-1)], dim=-1).permute(1, 2, 0, 3, 4)


def _leave_matrices(grad: torch.Tensor, lerp: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Give the gradient of lerp, bias and scale, [B, 12 R]."""
    grad = grad.permute(2, 0, 1, 3, 4)
    rows = torch.view_as_complex(torch.unflatten(grad[..., :4].contiguous(), -1, (2, 2)))
    by_first, by_second = torch.sub(rows[..., 0, :], rows[..., 1, :] * 1j).conj_physical_().unbind(-1)
    turned = by_second - by_first
    out = grad.new_empty(len(grad), lerp.shape[1], 3, 2, 2)
    by_lerp, by_scale = torch.view_as_complex(out[:, :, 0]), torch.view_as_complex(out[:, :, 2])
    torch.mul(turned, torch.view_as_complex(scale).conj_physical(), out=by_lerp)
    torch.addcmul(by_first, turned, torch.view_as_complex(lerp).conj_physical(), out=by_scale)
    out[:, :, 1] = grad[..., 4]
    return out.flatten(1)


def _leave_shares(grad: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Give the gradient of what the softmax is taken of."""
    by_shares = torch.log(shares).add_(1).mul_(grad.sum(-1, keepdim=True).neg_())
    by_shares[:, :-1].add_(grad)
    by_shares.mul_(unit_scale(by_shares)).mul_(shares)
    return by_shares.addcmul_(shares, by_shares.sum(-1, keepdim=True), value=-1)

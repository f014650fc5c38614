"""Weights out of a context: complex banks that each sample mixes, scales and shifts, and ranks that repel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch.nn import functional as F

from bioconvert.functional.complex_pairs import pair_matrix, pair_product
from bioconvert.functional.decorrelated_sum import Strengths, decorrelated_sum
from bioconvert.functional.gated_context import gated_context
from bioconvert.functional.phase_projection import stable_projection
from bioconvert.functional.precision import score_dtype, without_autocast
from bioconvert.functional.signals import backward_gradient_normalization, siglog

_NEUTRAL = [[[0.5, 0.0]], [[0.0, 0.0]], [[1.0, 0.0]]]
"""What is added to lerp, bias and scale: the mean of both banks as it is."""


class DeltaOptions(NamedTuple):
    """The numbers of a Delta composition.

    Args:
        rank: number of ranks :math:`R`.
        repulsion: how far similar ranks are pushed apart.
        noise: standard deviation of the noise on each rank's weights, in units of their own; training only.
        rank_noise: likewise on the logits of the ranks.
        similarity: strength of the gradient that lowers the similarity of ranks; the forward value is zero.
    """

    rank: int = 4
    repulsion: float = 0.3
    noise: float = 0.01
    rank_noise: float = 0.01
    similarity: float = 0.1


def compose_delta(
    context: torch.Tensor,
    tensors: Mapping[str, torch.Tensor],
    options: DeltaOptions = DeltaOptions(),  # noqa: B008 - a constant
    *,
    training: bool = False,
) -> torch.Tensor:
    r"""Give one matrix of weights for each context.

    With complex :math:`\lambda, \mu, \nu` (for each rank :math:`r` and each of two components) and rank
    weights :math:`\rho` from the context, and the complex banks :math:`A, B`:

    .. math::
        u = \mu \, ((\tfrac12 + \lambda) B + (\tfrac12 - \lambda) A) + \nu, \qquad
        p_r = \operatorname{Re}(u_{r1} \, \overline{u_{r2}}) / |u_{r2}|

        V = \operatorname{stabilized}(p), \quad S = V V^\top - \operatorname{diag}, \quad
        W = \sum_r \rho_r \Big(V_r - \frac{\kappa}{\sqrt R (R - 1)} \sum_s S_{rs} V_s \Big)

    with :math:`\mu` shifted by 1, and :math:`\rho` the softmax over the ranks and one more that weighs zeros.
    Gradients are normalised at the phase, around the stabilisation, and at :math:`\rho`; two terms without a
    value add gradients, those of the similarity :math:`|S|` of the ranks and of the entropy of :math:`\rho`.

    Args:
        context: one vector for each sample.
        tensors: ``context_transform_weight`` [26 R + 2, L] and ``context_transform_bias``, the banks
            ``weights`` [1, R, 2, 2, H, W, 2] (of bank, component and complex pair), and the temperature
            ``extras`` [1].
        options: the numbers.
        training: whether there is noise.

    Shape:
        - ``context``: :math:`(B, L)`.
        - Output: :math:`(B, H, W)`, in the type of the context; half precision is computed in fp32.
    """
    dtype = score_dtype(context)
    with without_autocast(context):
        held = {name: tensor.to(dtype) for name, tensor in tensors.items()}
        rows, cols = held["weights"].shape[-3:-1]
        gates = gated_context(
            context.to(dtype), held["context_transform_weight"], held["context_transform_bias"]
        )
        mixing, logits = gates[:, : 12 * options.rank], gates[:, 12 * options.rank :]
        weights = stable_projection(
            _matrices(torch.unflatten(mixing, -1, (options.rank, 3, 2, 2))), _rows(held["weights"])
        )
        ranks = _rank_weights(logits, held["extras"], options.rank_noise if training else 0.0)
        composed, deviations = decorrelated_sum(
            weights, ranks, Strengths(options.repulsion, options.similarity)
        )
        if training and options.noise:
            # The sum of the ranks' independent normal noises, drawn as the one normal number that it is.
            size = torch.linalg.vector_norm(ranks * deviations, dim=-1, keepdim=True)
            composed = composed + options.noise * size * torch.randn_like(composed)
        return composed.view(-1, rows, cols).to(context.dtype)


def _matrices(mixing: torch.Tensor) -> torch.Tensor:
    """Give a sample's way with the banks as real matrices, [R, 2, B, 2, 5], the bias in the last column."""
    lerp, bias, scale = (mixing + mixing.new_tensor(_NEUTRAL)).unbind(2)
    of_second = pair_product(scale, lerp)
    factors = pair_matrix(torch.stack([scale - of_second, of_second], dim=-2))
    matrices = torch.cat([factors.transpose(-2, -3).flatten(-2), bias.unsqueeze(-1)], dim=-1)
    return matrices.permute(1, 2, 0, 3, 4)


def _rows(banks: torch.Tensor) -> torch.Tensor:
    """Give the real and imaginary parts of both banks, and a row of ones, [R, 2, 5, N]."""
    parts = banks[0].flatten(3, 4).permute(0, 2, 1, 4, 3).flatten(2, 3)
    return F.pad(parts, (0, 0, 0, 1), value=1.0)


def _rank_weights(logits: torch.Tensor, temperature: torch.Tensor, noise: float) -> torch.Tensor:
    """Give the share of each rank, [B, R]; what the drain takes is left out."""
    ranks = logits.shape[-1] - 1
    logits = logits + F.pad(logits.new_full((1,), ranks**-0.5), (ranks, 0))
    if noise:
        logits = logits + noise * logits.detach().std(-1, keepdim=True) * torch.randn_like(logits)
    shares = backward_gradient_normalization(siglog(logits / temperature).softmax(-1))
    entropy: torch.Tensor = torch.special.entr(shares).sum(-1, keepdim=True)
    return (shares + (entropy - entropy.detach()))[:, :-1]

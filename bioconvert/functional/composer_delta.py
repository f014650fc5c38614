"""Weights out of a context: complex banks that each sample mixes, scales and shifts, and ranks that repel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch.nn import functional as F

from bioconvert.functional.decorrelated_sum import Strengths, decorrelated_sum
from bioconvert.functional.gated_context import gated_context
from bioconvert.functional.phase_projection import stable_projection
from bioconvert.functional.precision import score_dtype, without_autocast
from bioconvert.functional.rank_mixing import rank_mixing


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
        if training and options.rank_noise:
            gates = _with_noise(gates, options.rank_noise, options.rank + 1)
        mixing, ranks = rank_mixing(gates, held["extras"])
        weights = stable_projection(mixing, held["weights"])
        composed, deviations = decorrelated_sum(
            weights, ranks, Strengths(options.repulsion, options.similarity)
        )
        if training and options.noise:
            # The sum of the ranks' independent normal noises, drawn as the one normal number that it is.
            size = torch.linalg.vector_norm(ranks * deviations, dim=-1, keepdim=True)
            composed = composed + options.noise * size * torch.randn_like(composed)
        return composed.view(-1, rows, cols).to(context.dtype)


def _with_noise(gates: torch.Tensor, noise: float, logits: int) -> torch.Tensor:
    """Add noise to the logits of the ranks, which stand last, in units of their own deviation."""
    last = gates.detach()[:, -logits:]
    drained = last + F.pad(last.new_full((1,), (logits - 1) ** -0.5), (logits - 1, 0))
    drawn = noise * drained.std(-1, keepdim=True) * torch.randn_like(drained)
    return gates + F.pad(drawn, (gates.shape[1] - logits, 0))

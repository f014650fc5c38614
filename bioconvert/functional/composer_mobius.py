"""Weights out of a context: products of complex spaces that each sample shifts, scales and inverts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch

from bioconvert.functional.gated_context import gated_context
from bioconvert.functional.latent_maps import latent_maps
from bioconvert.functional.phased_outer_sum import phased_outer_sum
from bioconvert.functional.precision import score_dtype, without_autocast
from bioconvert.functional.rank_sums import inverse_rank_sum, rank_sum


class MobiusOptions(NamedTuple):
    """The numbers of a Möbius composition.

    Args:
        n_subspaces: number of subspaces :math:`C`.
        rank_subspace: number of ranks :math:`R` in each.
        rank_transformations: number of control points :math:`Z` that scale each side.
        asymmetry: least squared absolute value of what is inverted.
    """

    n_subspaces: int = 16
    rank_subspace: int = 16
    rank_transformations: int = 16
    asymmetry: float = 1e-3


def latent_size(context_length: int, n_subspaces: int) -> int:
    """Give the number of complex numbers that a context is mapped to.

    Args:
        context_length: length of a context vector.
        n_subspaces: number of subspaces.
    """
    return math.isqrt(context_length * n_subspaces * 2)


def compose_mobius(
    context: torch.Tensor,
    tensors: Mapping[str, torch.Tensor],
    options: MobiusOptions = MobiusOptions(),  # noqa: B008 - a constant
) -> torch.Tensor:
    r"""Give one matrix of weights for each context.

    With a complex latent :math:`z` from the context, of which shifts :math:`s, t`, control points (linearly
    interpolated to :math:`\mu_h, \nu_w`) and shares :math:`\beta` are complex linear functions, the last by
    a softmax over the ranks of absolute values:

    .. math::
        a_{ch} = \sum_r \beta_{cr} \, \gamma_c \, (i_{crh} + s_{cr}) \, \mu_{crh}, \qquad
        b_{cw} = \sum_r \beta_{cr} \, \gamma_c / ((j_{crw} + t_{cr}) \, \nu_{crw}), \qquad
        W_{hw} = \sum_c \operatorname{Re}(a_{ch} b_{cw} \overline{\theta_{chw}})

    where the squared absolute value of what is inverted has a floor, and :math:`\theta` is the phase of the
    projections. Gradients are normalised at the mapped context and at every tensor (see
    :func:`backward_gradient_normalization`).

    Args:
        context: one vector for each sample.
        tensors: ``context_transform_weight`` [4 D, L] and ``context_transform_bias``, ``direct_G_Re`` and
            ``direct_G_Im`` [2 + 2 Z, C, D, R], and as complex pairs ``w_mix`` [D, C R, 2], ``space_i``
            [1, C, R, H, 2], ``space_j`` [1, C, R, W, 2], ``inversions`` [1, C, 1, 1, 2] and ``projections``
            [1, C, H, W, 2].
        options: the numbers.

    Shape:
        - ``context``: :math:`(B, L)`.
        - Output: :math:`(B, H, W)`, in the type of the context; half precision is computed in fp32.
    """
    dtype = score_dtype(context)
    with without_autocast(context):
        wide = {name: tensor.to(dtype) for name, tensor in tensors.items()}
        latent = gated_context(
            context.to(dtype),
            wide.pop("context_transform_weight"),
            wide.pop("context_transform_bias"),
            normalized=True,
        )
        shift_i, shift_j, points_i, points_j, mixed = latent_maps(
            latent, wide["direct_G_Re"], wide["direct_G_Im"], wide["w_mix"]
        )
        shares = torch.linalg.vector_norm(mixed, dim=1).softmax(-1)
        columns = rank_sum(wide["space_i"], shift_i, points_i, shares, wide["inversions"])
        rows = inverse_rank_sum(wide["space_j"], shift_j, points_j, shares, options.asymmetry)
        return phased_outer_sum(columns, rows, wide["projections"]).to(context.dtype)

"""Weights out of a context: products of complex spaces that each sample shifts, scales and inverts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch.nn import functional as F

from bioconvert.functional.complex_pairs import pair_matrix, pair_product
from bioconvert.functional.gated_context import gated_context
from bioconvert.functional.phased_outer_sum import phased_outer_sum
from bioconvert.functional.precision import score_dtype, without_autocast
from bioconvert.functional.signals import backward_gradient_normalization

_LEAST_SQUARE = 1e-24
"""Squared absolute value below which a projection has no phase."""


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
        held = {name: backward_gradient_normalization(tensor) for name, tensor in wide.items()}
        matrices = pair_matrix(torch.unflatten(latent, -1, (-1, 2))).transpose(1, 2).flatten(2).flatten(0, 1)
        transforms = _transforms(matrices, held["direct_G_Re"], held["direct_G_Im"])
        shares = _shares(matrices, held["w_mix"], options.n_subspaces)
        gamma = held["inversions"].view(-1, 1, 1, 2)
        points_i, points_j = transforms[2:].chunk(2)
        weighted = pair_product(points_i.transpose(-1, -2), gamma * shares.unsqueeze(-1))
        columns = _columns(held["space_i"][0], transforms[0], weighted)
        rows = _inverted_rows(held["space_j"][0], transforms[1], points_j, shares, options.asymmetry)
        rows = pair_matrix(gamma.squeeze(1)) @ rows
        return phased_outer_sum(columns, rows, _phases(held["projections"][0])).to(context.dtype)


def _transforms(matrices: torch.Tensor, re: torch.Tensor, im: torch.Tensor) -> torch.Tensor:
    """Give the shifts and control points of every rank, [2 + 2 Z, C, B, 2, R]."""
    parts = torch.stack([re, im], dim=3).flatten(2, 3).flatten(0, 1)
    # Not as a broadcast product of two matrices, for which torch may transpose all of the second.
    transforms = torch.bmm(matrices.expand(len(parts), -1, -1), parts)
    return transforms.view(*re.shape[:2], -1, 2, re.shape[-1])


def _shares(matrices: torch.Tensor, mix: torch.Tensor, subspaces: int) -> torch.Tensor:
    """Give the share of every rank in its subspace, [C, B, R]."""
    mixed = (matrices @ mix.transpose(1, 2).flatten(0, 1)).view(-1, 2, mix.shape[1])
    sizes = torch.linalg.vector_norm(mixed, dim=1)
    return torch.unflatten(sizes, -1, (subspaces, -1)).softmax(-1).transpose(0, 1)


def _columns(space: torch.Tensor, shift: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Give the sum over the ranks of shifted spaces times interpolated control points, [C, B, H, 2]."""
    between = _interpolation(points, space.shape[2]).t()
    # Interpolation and sum change places for the shift, which is the same all along.
    shifted = pair_product(shift.transpose(-1, -2), points).sum(-2)
    scales = (between @ points.flatten(1)).view(-1, *points.shape[1:]).flatten(-2)
    by_rank = pair_matrix(space).permute(2, 0, 1, 4, 3).flatten(2, 3)
    columns = scales @ by_rank + (between @ shifted.flatten(1)).view(-1, *shifted.shape[1:])
    return columns.permute(1, 2, 0, 3)


def _inverted_rows(
    space: torch.Tensor, shift: torch.Tensor, points: torch.Tensor, shares: torch.Tensor, floor: float
) -> torch.Tensor:
    """Give the sum over the ranks of the inverse of shifted and scaled spaces, as planes, [C, B, 2, W]."""
    scales = points.flatten(1).t() @ _interpolation(points, space.shape[2])
    scale_re, scale_im = scales.view(*points.shape[1:], -1).unbind(2)
    space_re, space_im = (part.unsqueeze(1) for part in space.unbind(-1))
    shift_re, shift_im = (part.unsqueeze(-1) for part in shift.unbind(2))
    shifted_re, shifted_im = space_re + shift_re, space_im + shift_im
    re = shifted_re * scale_re - shifted_im * scale_im
    im = shifted_re * scale_im + shifted_im * scale_re
    factor = shares.unsqueeze(-1) / (re.square() + im.square()).clamp_min(floor)
    return torch.stack([(re * factor).sum(2), -(im * factor).sum(2)], dim=2)


def _interpolation(points: torch.Tensor, size: int) -> torch.Tensor:
    """Give the matrix that interpolates control points linearly to a length, [Z, size]."""
    identity = torch.eye(len(points), dtype=points.dtype, device=points.device)
    return F.interpolate(identity.unsqueeze(0), size, mode="linear", align_corners=False)[0]


def _phases(projections: torch.Tensor) -> torch.Tensor:
    """Give the phases as planes, [C, 2, H, W]."""
    re, im = projections.unbind(-1)
    inverse = (re.square() + im.square()).clamp_min(_LEAST_SQUARE).rsqrt()
    return torch.stack([re * inverse, im * inverse], dim=1)

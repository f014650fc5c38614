"""Sums over ranks of complex spaces that each sample shifts and scales, or of their inverses."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from bioconvert.functional.complex_pairs import pair_matrix, pair_product
from bioconvert.functional.eager import wants_plain_operations
from bioconvert.functional.rank_sums_fused import FusedInverseSum, FusedSum
from bioconvert.functional.signals import backward_gradient_normalization


def rank_sum(
    space: torch.Tensor,
    shift: torch.Tensor,
    points: torch.Tensor,
    shares: torch.Tensor,
    inversions: torch.Tensor,
) -> torch.Tensor:
    r"""Sum shifted and scaled spaces over the ranks.

    .. math::
        a_{ch} = \gamma_c^2 \sum_r \beta_{cr} \, (i_{crh} + s_{cr}) \, \mu_{crh}

    with :math:`\mu` the control points, linearly interpolated along :math:`h`. The gradients of the space and
    of :math:`\gamma` are normalised (see :func:`backward_gradient_normalization`).

    Args:
        space: :math:`i`, as pairs of real and imaginary parts.
        shift: :math:`s`, as planes.
        points: control points of :math:`\mu`, as planes.
        shares: :math:`\beta`.
        inversions: :math:`\gamma`, as pairs.

    Shape:
        - ``space``: :math:`(1, C, R, H, 2)`, ``shift``: :math:`(B, 2, C, R)`, ``points``:
          :math:`(B, 2, Z, C, R)`, ``shares``: :math:`(B, C, R)`, ``inversions``: :math:`(1, C, 1, 1, 2)`.
        - Output, as planes: :math:`(B, C, 2, H)`.
    """
    operands = space, shift, points, shares, inversions
    between = interpolation(points, space.shape[3])
    if wants_plain_operations(operands):
        return plain_sum(*operands, between)
    total: torch.Tensor = FusedSum.apply(*operands, between, plain_sum)  # type: ignore[no-untyped-call]
    return total


def inverse_rank_sum(
    space: torch.Tensor, shift: torch.Tensor, points: torch.Tensor, shares: torch.Tensor, floor: float
) -> torch.Tensor:
    r"""Sum the inverses of shifted and scaled spaces over the ranks.

    .. math::
        v_{crw} = (j_{crw} + t_{cr}) \, \nu_{crw}, \qquad
        b_{cw} = \sum_r \beta_{cr} \, \overline{v_{crw}} / \max(|v_{crw}|^2, \varepsilon)

    with :math:`\nu` the control points, linearly interpolated along :math:`w`. The gradient of the space is
    normalised (see :func:`backward_gradient_normalization`).

    Args:
        space: :math:`j`, as pairs of real and imaginary parts.
        shift: :math:`t`, as planes.
        points: control points of :math:`\nu`, as planes.
        shares: :math:`\beta`.
        floor: :math:`\varepsilon`.

    Shape:
        - ``space``: :math:`(1, C, R, W, 2)`, ``shift``: :math:`(B, 2, C, R)`, ``points``:
          :math:`(B, 2, Z, C, R)`, ``shares``: :math:`(B, C, R)`.
        - Output, as planes: :math:`(B, C, 2, W)`.
    """
    operands = space, shift, points, shares
    between = interpolation(points, space.shape[3])
    if wants_plain_operations(operands):
        return plain_inverse_sum(*operands, between, floor)
    total: torch.Tensor = FusedInverseSum.apply(  # type: ignore[no-untyped-call]
        *operands, between, floor, plain_inverse_sum
    )
    return total


def plain_sum(
    space: torch.Tensor,
    shift: torch.Tensor,
    points: torch.Tensor,
    shares: torch.Tensor,
    inversions: torch.Tensor,
    between: torch.Tensor,
) -> torch.Tensor:
    """Give what :func:`rank_sum` does, in operations that can be differentiated and transformed."""
    inversions = backward_gradient_normalization(inversions).view(-1, 2)
    scaled = _scaled(space, shift, points * shares.unsqueeze(1).unsqueeze(1), between)
    return pair_matrix(pair_product(inversions, inversions)) @ scaled.sum(3).transpose(1, 2)


def plain_inverse_sum(
    space: torch.Tensor,
    shift: torch.Tensor,
    points: torch.Tensor,
    shares: torch.Tensor,
    between: torch.Tensor,
    floor: float,
) -> torch.Tensor:
    """Give what :func:`inverse_rank_sum` does, in operations that can be differentiated and transformed."""
    scaled = _scaled(space, shift, points, between)
    factor = shares.unsqueeze(-1) / scaled.square().sum(1).clamp_min(floor)
    re, im = (scaled * factor.unsqueeze(1)).sum(3).unbind(1)
    return torch.stack([re, -im], dim=2)


def interpolation(points: torch.Tensor, size: int) -> torch.Tensor:
    """Give the matrix that interpolates control points linearly to a length, [Z, size]."""
    identity = torch.eye(points.shape[2], dtype=points.dtype, device=points.device)
    return F.interpolate(identity.unsqueeze(0), size, mode="linear", align_corners=False)[0]


def _scaled(
    space: torch.Tensor, shift: torch.Tensor, points: torch.Tensor, between: torch.Tensor
) -> torch.Tensor:
    """Give shifted spaces times interpolated control points, [B, 2, C, R, H]."""
    space = backward_gradient_normalization(space)[0]
    (re, im), (scale_re, scale_im) = (
        (space.movedim(-1, 0) + shift.unsqueeze(-1)).unbind(1),
        torch.unbind(torch.einsum("bpzcr,zh->bpcrh", points, between), 1),
    )
    return torch.stack([re * scale_re - im * scale_im, re * scale_im + im * scale_re], dim=1)

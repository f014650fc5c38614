"""The complex linear maps of a latent vector that a Möbius composition needs, all by one matrix product."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import Function

from bioconvert.functional.blocks import scratch
from bioconvert.functional.complex_pairs import pair_matrix, pair_of
from bioconvert.functional.eager import wants_plain_operations
from bioconvert.functional.recomputation import recomputed, wants_recomputation
from bioconvert.functional.signals import backward_gradient_normalization, unit_scale

Maps = tuple[torch.Tensor, ...]


def latent_maps(latent: torch.Tensor, re: torch.Tensor, im: torch.Tensor, mix: torch.Tensor) -> Maps:
    r"""Map complex vectors linearly to the shifts, the control points and the mixture of every rank.

    .. math::
        y_{btcr} = \sum_d z_{bd} \, G_{tcdr}, \qquad m_{bcr} = \sum_d z_{bd} \, w_{dcr}

    The gradients of the two parts of :math:`G`, by :math:`t`, and of :math:`w`, by :math:`d`, are normalised
    (see :func:`backward_gradient_normalization`).

    Args:
        latent: :math:`z`, pairs of real and imaginary parts.
        re: the real part of :math:`G`.
        im: its imaginary part.
        mix: :math:`w`, as pairs.

    Shape:
        - ``latent``: :math:`(B, 2 D)`, ``re`` and ``im``: :math:`(2 + 2 Z, C, D, R)`, ``mix``:
          :math:`(D, C R, 2)`.
        - Outputs, as planes: the two shifts :math:`(B, 2, C, R)`, the control points of both sides
          :math:`(B, 2, Z, C, R)`, and :math:`m` :math:`(B, 2, C, R)`.
    """
    operands = latent, re, im, mix
    if wants_plain_operations(operands):
        return plain_maps(*operands)
    maps: Maps = _LatentMaps.apply(*operands)  # type: ignore[no-untyped-call]
    return maps


def plain_maps(latent: torch.Tensor, re: torch.Tensor, im: torch.Tensor, mix: torch.Tensor) -> Maps:
    """Give what :func:`latent_maps` does, in operations that can be differentiated and transformed."""
    re, im, mix = (backward_gradient_normalization(tensor) for tensor in (re, im, mix))
    return _parted(_turns(latent) @ _stacked(re, im, mix), re)


class _LatentMaps(Function):
    """Keeps its inputs, and puts all matrices side by side anew for the backward."""

    @staticmethod
    def forward(
        ctx: Any, latent: torch.Tensor, re: torch.Tensor, im: torch.Tensor, mix: torch.Tensor
    ) -> Maps:
        ctx.save_for_backward(latent, re, im, mix)
        (room,) = scratch(re, _stacked_shape(re))
        return _parted(_turns(latent) @ _laid_out(re, im, mix, room), re)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[torch.Tensor | None, ...]:
        latent, re, im, mix = ctx.saved_tensors
        if wants_recomputation(grads):
            return recomputed(plain_maps, ctx.saved_tensors, grads)
        shape, turns = _stacked_shape(re), _turns(latent)
        room, by_room, grad = scratch(re, shape, shape, (len(latent), 2, *shape[2:]))
        torch.cat([by if by.dim() == 5 else by.unsqueeze(2) for by in grads], 2, out=grad)
        rows = grad.flatten(2).flatten(0, 1)
        by_turns = rows @ _laid_out(re, im, mix, room).t()
        torch.mm(turns.t(), rows, out=by_room.flatten(2).flatten(0, 1))
        by_re, by_im = (_unit(part[:, :-1].permute(1, 2, 0, 3)) for part in by_room)
        by_mix = _unit(by_room[:, :, -1].flatten(2).permute(1, 2, 0))
        by_turns = by_turns.view(len(latent), 2, 2, -1).permute(0, 3, 1, 2)
        return pair_of(by_turns).flatten(1), by_re, by_im, by_mix


def _stacked_shape(re: torch.Tensor) -> tuple[int, ...]:
    maps, subspaces, size, ranks = re.shape
    return 2, size, maps + 1, subspaces, ranks


def _laid_out(re: torch.Tensor, im: torch.Tensor, mix: torch.Tensor, room: torch.Tensor) -> torch.Tensor:
    """Write what :func:`_stacked` gives."""
    for part, matrices, column in zip(room, (re, im), mix.unbind(-1), strict=True):
        part[:, :-1].copy_(matrices.permute(2, 0, 1, 3))
        part[:, -1].copy_(column.view(part[:, -1].shape))
    return room.flatten(2).flatten(0, 1)


def _turns(latent: torch.Tensor) -> torch.Tensor:
    """Give the matrix that multiplies real and imaginary parts, one above the other, [2 B, 2 D]."""
    turns = pair_matrix(torch.unflatten(latent, -1, (-1, 2)))
    return turns.permute(0, 2, 3, 1).flatten(2).flatten(0, 1)


def _stacked(re: torch.Tensor, im: torch.Tensor, mix: torch.Tensor) -> torch.Tensor:
    """Give all that the latent vector is multiplied by, [2 D, (3 + 2 Z) C R]."""
    rows = [part.permute(2, 0, 1, 3).flatten(1) for part in (re, im)]
    return torch.cat([torch.cat([row, part], 1) for row, part in zip(rows, mix.unbind(-1), strict=True)])


def _parted(maps: torch.Tensor, like: torch.Tensor) -> Maps:
    parted = maps.view(-1, 2, len(like) + 1, *like.shape[1:4:2])
    points = len(like) // 2 - 1
    shift_i, shift_j, points_i, points_j, mixed = torch.split(parted, [1, 1, points, points, 1], 2)
    return shift_i.squeeze(2), shift_j.squeeze(2), points_i, points_j, mixed.squeeze(2)


def _unit(grad: torch.Tensor) -> torch.Tensor:
    """Give a gradient with unit mean square by sample, in the order of its dimensions."""
    unit = grad.contiguous()
    return unit.mul_(unit_scale(unit))

"""The sum of complex outer products, each projected on phases, a few products at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import torch
from torch.autograd import Function

from bioconvert.functional.blocks import BLOCK, scratch
from bioconvert.functional.complex_pairs import pair_matrix, pair_of
from bioconvert.functional.eager import wants_plain_operations
from bioconvert.functional.recomputation import recomputed, wants_recomputation
from bioconvert.functional.signals import backward_gradient_normalization, unit_scale

_LEAST_SQUARE = 1e-24
"""Squared absolute value below which a projection has no phase."""
_BLOCK = BLOCK // 2
"""Products that are made at once: with their gradients, they fit the cache of one core (measured)."""
_ELSEWHERE = 16 * BLOCK
"""Likewise on an accelerator, where few large operations are faster."""

Part = tuple[slice, slice]


def phased_outer_sum(columns: torch.Tensor, rows: torch.Tensor, projections: torch.Tensor) -> torch.Tensor:
    r"""Project outer products of complex vectors on phases, and sum over the subspaces.

    .. math::
        y_{hw} = \sum_c \operatorname{Re}(a_{ch} \, b_{cw} \, \overline{p_{chw}}) / |p_{chw}|

    The products take as much memory as all samples and subspaces together, and are never held at once. The
    gradient of the projections is normalised (see :func:`backward_gradient_normalization`).

    Args:
        columns: :math:`a`, as planes of real and imaginary parts.
        rows: :math:`b`, likewise.
        projections: :math:`p`, as pairs.

    Shape:
        - ``columns``: :math:`(B, C, 2, H)`, ``rows``: :math:`(B, C, 2, W)`, ``projections``:
          :math:`(1, C, H, W, 2)`.
        - Output: :math:`(B, H, W)`.
    """
    operands = columns, rows, projections
    if wants_plain_operations(operands):
        return plain_outer_sum(*operands)
    total: torch.Tensor = _PhasedOuterSum.apply(*operands)  # type: ignore[no-untyped-call]
    return total


def plain_outer_sum(columns: torch.Tensor, rows: torch.Tensor, projections: torch.Tensor) -> torch.Tensor:
    """Give what :func:`phased_outer_sum` does, in operations that can be differentiated and transformed."""
    projections = backward_gradient_normalization(projections)[0]
    phases = (projections * _inverse_size(projections)).movedim(-1, 1)
    products = torch.unflatten(_turns(columns) @ rows, 2, (2, -1))
    return (products * phases).sum((1, 2))


class _PhasedOuterSum(Function):
    """Keeps its inputs and the phases, and makes the products anew for the backward."""

    @staticmethod
    def forward(
        ctx: Any, columns: torch.Tensor, rows: torch.Tensor, projections: torch.Tensor
    ) -> torch.Tensor:
        phases, products = scratch(rows, *_shapes(columns, rows)[:2])
        _write_phases(projections[0], phases)
        turns = _turns(columns)
        total = rows.new_zeros(len(rows), *phases.shape[-2:])
        for (samples, subspaces), part in _blocks(columns, rows):
            made = _multiply(turns[samples, subspaces], rows[samples, subspaces], _start(products, part))
            total[samples].add_(made.mul_(phases[subspaces]).flatten(1, 2).sum(1))
        ctx.save_for_backward(columns, rows, projections)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[torch.Tensor | None, ...]:
        columns, rows, projections = ctx.saved_tensors
        if wants_recomputation(grads):
            return recomputed(plain_outer_sum, ctx.saved_tensors, grads)
        (shape, size), turns = _shapes(columns, rows), _turns(columns)
        phases, by_phases, products, onward = scratch(rows, shape, shape, size, size)
        inverse = _write_phases(projections[0], phases)
        by_phases.zero_()
        by_turns, by_rows = rows.new_empty(*rows.shape[:3], turns.shape[2]), torch.empty_like(rows)
        for (samples, subspaces), part in _blocks(columns, rows):
            left, right = turns[samples, subspaces], rows[samples, subspaces]
            grad = grads[0][samples, None, None]
            _add_products(by_phases[subspaces], _multiply(left, right, _start(products, part)), grad)
            flat = torch.mul(grad, phases[subspaces], out=_start(onward, part)).flatten(2, 3).flatten(0, 1)
            by_turns[samples, subspaces] = torch.bmm(right.flatten(0, 1), flat.mT).view(*part[:2], 2, -1)
            by_rows[samples, subspaces] = torch.bmm(left.flatten(0, 1).mT, flat).view(right.shape)
        # From the gradient of matrices of real and imaginary parts that act on both parts.
        by_columns = pair_of(torch.unflatten(by_turns, -1, (2, -1)).permute(0, 1, 4, 3, 2)).mT
        return by_columns, by_rows, _leave_phases(by_phases, phases, inverse, projections)


def _turns(columns: torch.Tensor) -> torch.Tensor:
    """Give what turns the rows, [B, C, 2 H, 2]: first to real parts, then to imaginary ones."""
    return pair_matrix(columns.mT).transpose(2, 3).flatten(2, 3)


def _shapes(columns: torch.Tensor, rows: torch.Tensor) -> tuple[Sequence[int], Sequence[int]]:
    """Give the shape of the phases, and the size of a block of products."""
    subspaces, _, height = columns.shape[1:]
    shape = subspaces, 2, height, rows.shape[-1]
    return shape, (prod(_step(columns, rows)) * prod(shape[1:]),)


def _step(columns: torch.Tensor, rows: torch.Tensor) -> tuple[int, int]:
    """Give the number of samples and of subspaces in a block."""
    samples, subspaces, _, height = columns.shape
    most = (_BLOCK if rows.device.type == "cpu" else _ELSEWHERE) // (2 * height * rows.shape[-1])
    return min(samples, max(1, most // subspaces)), min(max(1, most), subspaces)


def _blocks(columns: torch.Tensor, rows: torch.Tensor) -> Iterator[tuple[Part, tuple[int, ...]]]:
    """Cut samples and subspaces into blocks, and give the shape of each block's products."""
    samples, subspaces, _, height = columns.shape
    step = _step(columns, rows)
    for sample in range(0, samples, step[0]):
        for subspace in range(0, subspaces, step[1]):
            part = slice(sample, sample + step[0]), slice(subspace, subspace + step[1])
            yield part, (*columns[part].shape[:2], 2, height, rows.shape[-1])


def _start(room: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    return room[: prod(shape)].view(shape)


def _multiply(turns: torch.Tensor, rows: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """Write the products, [B, C, 2, H, W]."""
    torch.bmm(turns.flatten(0, 1), rows.flatten(0, 1), out=out.flatten(2, 3).flatten(0, 1))
    return out


def _add_products(total: torch.Tensor, products: torch.Tensor, grad: torch.Tensor) -> None:
    """Add the sum over the samples."""
    if len(grad) == 1:
        total.addcmul_(products[0], grad[0])
    else:
        total.add_(products.mul_(grad).sum(0))


def _inverse_size(projections: torch.Tensor) -> torch.Tensor:
    return projections.square().sum(-1, keepdim=True).clamp_min(_LEAST_SQUARE).rsqrt()


def _write_phases(projections: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """Write the phases as planes, [C, 2, H, W], and give the inverse of the projections' size."""
    (re, im), (to_re, to_im) = projections.unbind(-1), out.unbind(1)
    inverse = (re * re).addcmul_(im, im).clamp_min_(_LEAST_SQUARE).rsqrt_()
    torch.mul(re, inverse, out=to_re)
    torch.mul(im, inverse, out=to_im)
    return inverse


def _leave_phases(
    grad: torch.Tensor, phases: torch.Tensor, inverse: torch.Tensor, projections: torch.Tensor
) -> torch.Tensor:
    """Give the normalised gradient of the projections, across the phases; changes ``grad``."""
    (re, im), (by_re, by_im) = phases.unbind(1), grad.unbind(1)
    along = (re * by_re).addcmul_(im, by_im)
    grad.addcmul_(phases, along.unsqueeze(1), value=-1).mul_(inverse.unsqueeze(1))
    out = torch.empty_like(projections)
    torch.mul(grad.movedim(1, -1), unit_scale(grad.unsqueeze(0)).view(()), out=out[0])
    return out

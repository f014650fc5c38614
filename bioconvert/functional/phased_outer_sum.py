"""The sum of complex outer products, each projected on phases, a few products at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.autograd import Function

from bioconvert.functional.blocks import BLOCK, rooms, shaped
from bioconvert.functional.complex_pairs import pair_matrix
from bioconvert.functional.eager import is_batched, wants_plain_operations


def phased_outer_sum(columns: torch.Tensor, rows: torch.Tensor, phases: torch.Tensor) -> torch.Tensor:
    r"""Project outer products of complex vectors on phases, and sum over the subspaces.

    .. math::
        y_{hw} = \sum_c \operatorname{Re}(a_{ch} \, b_{cw} \, \overline{\theta_{chw}})

    The products take as much memory as all samples and subspaces together, and are never held at once.

    Args:
        columns: :math:`a`, as pairs of real and imaginary parts.
        rows: :math:`b`, as planes.
        phases: :math:`\theta`, as planes.

    Shape:
        - ``columns``: :math:`(C, B, H, 2)`, ``rows``: :math:`(C, B, 2, W)`, ``phases``: :math:`(C, 2, H, W)`.
        - Output: :math:`(B, H, W)`.
    """
    # What turns b by a: first all real parts of the product, then all imaginary ones.
    turns = pair_matrix(columns).transpose(2, 3).flatten(2, 3)
    if wants_plain_operations((columns, rows, phases)):
        return _plain_sum(turns, rows, phases)
    total: torch.Tensor = _PhasedOuterSum.apply(turns, rows, phases)  # type: ignore[no-untyped-call]
    return total


def _plain_sum(turns: torch.Tensor, rows: torch.Tensor, phases: torch.Tensor) -> torch.Tensor:
    products = torch.unflatten(turns @ rows, 2, (2, -1))
    return (products * phases.unsqueeze(1)).sum((0, 2))


class _PhasedOuterSum(Function):
    """Keeps its inputs, and makes the products anew for the backward."""

    @staticmethod
    def forward(ctx: Any, turns: torch.Tensor, rows: torch.Tensor, phases: torch.Tensor) -> torch.Tensor:
        total = rows.new_zeros(rows.shape[1], *phases.shape[-2:])
        for part, products, _ in _blocks(turns, rows):
            torch.bmm(turns[part].flatten(0, 1), rows[part].flatten(0, 1), out=products.flatten(0, 1))
            for product, phase in zip(torch.unflatten(products, 2, (2, -1)), phases[part], strict=True):
                total.addcmul_(product[:, 0], phase[0]).addcmul_(product[:, 1], phase[1])
        ctx.save_for_backward(turns, rows, phases)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[torch.Tensor, ...]:
        turns, rows, phases = ctx.saved_tensors
        grad = grads[0]
        if torch.is_grad_enabled() or is_batched(grad):
            return _recomputed((turns, rows, phases), grad)
        by_turns, by_rows, by_phases = map(torch.empty_like, (turns, rows, phases))
        spread, ones = grad.unsqueeze(1), grad.new_ones(1, 1, len(grad))
        for part, products, room in _blocks(turns, rows):
            left, right = turns[part].flatten(0, 1), rows[part].flatten(0, 1)
            torch.bmm(left, right, out=products.flatten(0, 1))
            parts = torch.unflatten(products, 2, (2, -1)).mul_(spread)
            # A sum over the samples as a product with ones, which is far faster.
            torch.bmm(
                ones.expand(len(parts), -1, -1), parts.flatten(2), out=by_phases[part].view(len(parts), 1, -1)
            )
            onward = torch.mul(spread, phases[part].unsqueeze(1), out=room.view(parts.shape))
            onward = onward.view(products.shape).flatten(0, 1)
            by_turns[part] = torch.bmm(onward, right.transpose(1, 2)).view(turns[part].shape)
            by_rows[part] = torch.bmm(left.transpose(1, 2), onward).view(rows[part].shape)
        return by_turns, by_rows, by_phases


def _blocks(turns: torch.Tensor, rows: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
    """Cut the subspaces into blocks, with room for the products and for their gradients."""
    subspaces, samples, height = turns.shape[:3]
    each = samples * height * rows.shape[-1]
    kept = rows.device.type == "cpu" and each <= BLOCK
    step = BLOCK // each if kept else 1
    found = rooms(rows[0, 0, 0, 0])[:2] if kept else (rows.new_empty(each), rows.new_empty(each))
    for start in range(0, subspaces, step):
        part = slice(start, start + step)
        size = turns[part, :, :, :1].expand(-1, -1, -1, rows.shape[-1])
        yield part, shaped(found[0], size), shaped(found[1], size)


def _recomputed(operands: tuple[torch.Tensor, ...], grad: torch.Tensor) -> tuple[torch.Tensor, ...]:
    graph = torch.is_grad_enabled()
    with torch.enable_grad():
        operands = tuple(operand.view_as(operand) for operand in operands)
        total = _plain_sum(*operands)
    return torch.autograd.grad(total, operands, grad, create_graph=graph)

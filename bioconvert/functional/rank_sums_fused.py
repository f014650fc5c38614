"""The sums over ranks as autograd functions, a few samples at a time, with memory that outlives the call.

Fresh memory costs more than the arithmetic in it: next to nothing is kept, and all else is made anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch.autograd import Function

from bioconvert.functional.blocks import BLOCK, scratch
from bioconvert.functional.complex_pairs import pair_matrix, pair_of, pair_product
from bioconvert.functional.recomputation import recomputed, wants_recomputation
from bioconvert.functional.signals import normalized_by_sample, unit_scale

Plain = Callable[..., torch.Tensor]
"""The same in plain operations."""
_EPSILON = 1e-6
"""What is added to the norm of a gradient that is normalised."""
_BLOCK = BLOCK // 4
"""Elements of a block of samples: four of them together stay near the core (measured)."""


class FusedSum(Function):
    """Keeps its inputs and the sum without the inversions."""

    @staticmethod
    def forward(
        ctx: Any,
        space: torch.Tensor,
        shift: torch.Tensor,
        points: torch.Tensor,
        shares: torch.Tensor,
        inversions: torch.Tensor,
        between: torch.Tensor,
        plain: Plain,
    ) -> torch.Tensor:
        """Give the sum."""
        weighted = points * shares[:, None, None]
        total = space.new_empty(len(shift), space.shape[1], 2, space.shape[3])
        for part, block in _blocks(space, shift, weighted, between):
            torch.sum(_multiply(block), 3, out=total[part].transpose(1, 2))
        ctx.save_for_backward(space, shift, points, shares, inversions, between, total)
        ctx.plain = plain
        return torch.matmul(_turns(inversions), total)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[torch.Tensor | None, ...]:
        """Give the gradients of all tensors."""
        *operands, between, total = ctx.saved_tensors
        if wants_recomputation(grads):
            return *recomputed(lambda *of: ctx.plain(*of, between), operands, grads), None, None
        space, shift, points, shares, inversions = operands
        by_inversions = _leave_turns(torch.matmul(grads[0], total.mT).sum(0), inversions)
        grad = torch.matmul(_turns(inversions).mT, grads[0]).transpose(1, 2).unsqueeze(3)
        weighted, into = points * shares[:, None, None], _Gradients.of(space, shift, points)
        for part, block in _blocks(space, shift, weighted, between):
            into.add(part, grad[part], block, between)
        by_shares = (into.points * points).sum((1, 2))
        by_points = into.points.mul_(shares[:, None, None])
        return into.of_space(), into.shift, by_points, by_shares, by_inversions, None, None


class FusedInverseSum(Function):
    """Keeps its inputs."""

    @staticmethod
    def forward(
        ctx: Any,
        space: torch.Tensor,
        shift: torch.Tensor,
        points: torch.Tensor,
        shares: torch.Tensor,
        between: torch.Tensor,
        floor: float,
        plain: Plain,
    ) -> torch.Tensor:
        """Give the sum."""
        total = space.new_empty(len(shift), space.shape[1], 2, space.shape[3])
        for part, block in _blocks(space, shift, points, between):
            scaled = _multiply(block)
            square = _squared_size(scaled, floor, block.room[:, 0])
            factor = torch.div(shares[part].unsqueeze(-1), square, out=square)
            torch.sum(scaled.mul_(factor.unsqueeze(1)), 3, out=total[part].transpose(1, 2))
        total[:, :, 1].neg_()
        ctx.save_for_backward(space, shift, points, shares, between)
        ctx.floor, ctx.plain = floor, plain
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[torch.Tensor | None, ...]:
        """Give the gradients of all tensors."""
        *operands, between = ctx.saved_tensors
        if wants_recomputation(grads):
            found = recomputed(lambda *of: ctx.plain(*of, between, ctx.floor), operands, grads)
            return *found, None, None, None
        space, shift, points, shares = operands
        grad = grads[0].transpose(1, 2).unsqueeze(3).clone()
        grad[:, 1].neg_()
        by_shares, into = torch.empty_like(shares), _Gradients.of(space, shift, points)
        for part, block in _blocks(space, shift, points, between):
            by_scaled = _leave_inverse(grad[part], block, shares[part], ctx.floor, by_shares[part])
            into.add(part, by_scaled, block, between)
        return into.of_space(), into.shift, into.points, by_shares, None, None, None


class _Block(NamedTuple):
    """What belongs to a block of samples, as planes, [B, 2, C, R, H]: two factors, and room for more."""

    shifted: torch.Tensor
    scales: torch.Tensor
    product: torch.Tensor
    room: torch.Tensor


class _Gradients(NamedTuple):
    """The gradients of the space, as planes, of the shift and of the control points."""

    space: torch.Tensor
    shift: torch.Tensor
    points: torch.Tensor

    @classmethod
    def of(cls, space: torch.Tensor, shift: torch.Tensor, points: torch.Tensor) -> _Gradients:
        planes = space.new_zeros(2, *space.shape[1:4])
        return cls(planes, shift.new_empty(shift.shape), points.new_empty(points.shape))

    def add(self, part: slice, grad: torch.Tensor, block: _Block, between: torch.Tensor) -> None:
        """Work out a block's, from the gradient of its product; changes the block."""
        rows = _multiply_by_conjugate(grad, block.shifted, block.room).flatten(2, 3).flatten(0, 1)
        by_points = self.points[part].flatten(3).flatten(0, 1)
        torch.bmm(between.expand(len(rows), -1, -1), rows.mT, out=by_points)
        by_shifted = _multiply_by_conjugate(grad, block.scales, block.shifted)
        torch.sum(by_shifted, -1, out=self.shift[part])
        self.space.add_(by_shifted[0] if len(by_shifted) == 1 else by_shifted.sum(0))

    def of_space(self) -> torch.Tensor:
        """Give the normalised gradient of the space, as pairs."""
        by_space = self.space.new_empty(1, *self.space.shape[1:], 2)
        scale = unit_scale(self.space.unsqueeze(0)).view(())
        torch.mul(self.space.movedim(0, -1), scale, out=by_space[0])
        return by_space


def _blocks(
    space: torch.Tensor, shift: torch.Tensor, points: torch.Tensor, between: torch.Tensor
) -> Iterator[tuple[slice, _Block]]:
    """Cut the samples into blocks, with shifted space and interpolated scales in them."""
    planes = space[0].movedim(-1, 0).contiguous()
    step = max(1, _BLOCK // planes.numel()) if space.device.type == "cpu" else len(shift)
    rooms = scratch(space, *[(min(step, len(shift)), *planes.shape)] * 4)
    for start in range(0, len(shift), step):
        part = slice(start, start + step)
        block = _Block(*(room[: len(shift[part])] for room in rooms))
        torch.add(planes, shift[part].unsqueeze(-1), out=block.shifted)
        rows = points[part].flatten(3).flatten(0, 1)
        scales = block.scales.flatten(2, 3).flatten(0, 1)
        torch.bmm(rows.mT, between.expand(len(rows), -1, -1), out=scales)
        yield part, block


def _multiply(block: _Block) -> torch.Tensor:
    """Write the complex product of the factors."""
    (a_re, a_im), (b_re, b_im) = block.shifted.unbind(1), block.scales.unbind(1)
    re, im = block.product.unbind(1)
    torch.mul(a_re, b_re, out=re).addcmul_(a_im, b_im, value=-1)
    torch.mul(a_re, b_im, out=im).addcmul_(a_im, b_re)
    return block.product


def _multiply_by_conjugate(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """Write the complex product of planes with the conjugate of others."""
    (a_re, a_im), (b_re, b_im), (re, im) = left.unbind(1), right.unbind(1), out.unbind(1)
    torch.mul(a_re, b_re, out=re).addcmul_(a_im, b_im)
    torch.mul(a_im, b_re, out=im).addcmul_(a_re, b_im, value=-1)
    return out


def _squared_size(planes: torch.Tensor, floor: float, out: torch.Tensor) -> torch.Tensor:
    re, im = planes.unbind(1)
    return torch.mul(re, re, out=out).addcmul_(im, im).clamp_min_(floor)


def _leave_inverse(
    grad: torch.Tensor, block: _Block, shares: torch.Tensor, floor: float, by_shares: torch.Tensor
) -> torch.Tensor:
    """Write the gradient of what is inverted, and that of the shares; ``grad`` is that of its conjugate."""
    scaled = _multiply(block)
    along, square = block.room.unbind(1)
    _squared_size(scaled, floor, square)
    (re, im), (by_re, by_im) = scaled.unbind(1), grad.unbind(1)
    torch.mul(re, by_re, out=along).addcmul_(im, by_im).div_(square)
    torch.sum(along, -1, out=by_shares)
    # What is at the floor isn't divided by its own size.
    along.masked_fill_(square <= floor, 0)
    factor = torch.div(shares.unsqueeze(-1), square, out=square)
    return scaled.mul_(along.mul_(-2).unsqueeze(1)).add_(grad).mul_(factor.unsqueeze(1))


def _turns(inversions: torch.Tensor) -> torch.Tensor:
    """Give the matrices that multiply by the squares, [C, 2, 2]."""
    pairs = inversions.view(-1, 2)
    return pair_matrix(pair_product(pairs, pairs))


def _leave_turns(grad: torch.Tensor, inversions: torch.Tensor) -> torch.Tensor:
    """Give the normalised gradient of the inversions."""
    conjugates = inversions.view(-1, 2) * inversions.new_tensor([2, -2])
    by_inversions = pair_product(conjugates, pair_of(grad)).view(inversions.shape)
    return normalized_by_sample(by_inversions, _EPSILON)

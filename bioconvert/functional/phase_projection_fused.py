"""The stabilised projection on phases as one autograd function that reuses its memory.

Fresh memory costs more than the arithmetic in it, so samples are taken in blocks with three buffers that
outlive the call, and what is cheap to compute again isn't kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch.autograd import Function

from bioconvert.functional.blocks import BLOCK, Rooms, rooms
from bioconvert.functional.recomputation import recomputed, wants_recomputation

LEAST_SQUARE = 1e-24
"""Squared absolute value below which a number has no phase."""
_SIGLOG_SHIFT = 1e-4
"""What siglog adds to the absolute value before the logarithm, beside e."""
_EPSILON = 1e-6
"""What is added to the norm of a gradient that is normalised."""


Plain = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""The same in plain operations."""


class Leaks(NamedTuple):
    """The numbers of the stabilisation.

    Args:
        leak: share of the signal that passes gate and logarithm unchanged.
        eps: added to the mean absolute value.
    """

    leak: float
    eps: float


class FusedProjection(Function):
    """Keeps its inputs, the projection, its leaking logarithm and the output.

    Where the backward is to have a graph of its own, or gradients come in batches, it goes through the plain
    operations.
    """

    @staticmethod
    def forward(
        ctx: Any, mixing: torch.Tensor, weights: torch.Tensor, leaks: Leaks, plain: Plain
    ) -> tuple[torch.Tensor, ...]:
        """Give the stabilised projection."""
        banks = _banks(weights)
        ranks, size, samples = mixing.shape[0], banks.shape[-1], mixing.shape[2]
        projected, logarithm, output = (banks.new_empty(samples, ranks, size) for _ in range(3))
        scale = banks.new_empty(samples, ranks, 1)
        for part, room in _blocks(mixing, banks):
            planes = _mixed(mixing[:, :, part], banks, room.first)
            x, y = projected[part], output[part]
            _project(planes, x, _shaped(room.third, x))
            _leaking_logarithm(x, leaks.leak, logarithm[part], _shaped(room.third, x))
            torch.sigmoid(x, out=y).add_(x, alpha=leaks.leak).mul_(logarithm[part])
            mean = torch.linalg.vector_norm(y, 1, -1, keepdim=True).div_(size)
            y.mul_(torch.rsqrt(mean.add_(leaks.eps), out=scale[part]))
        ctx.save_for_backward(mixing, weights, banks, projected, logarithm, output, scale)
        ctx.leaks, ctx.plain = leaks, plain
        return (output,)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[torch.Tensor | None, ...]:
        """Give the gradients of the mixing matrices and of the weights."""
        mixing, weights, banks, *kept = ctx.saved_tensors
        grad = grads[0]
        if wants_recomputation(grads):
            return *recomputed(ctx.plain, (mixing, weights), grads), None, None
        by_mixing, by_banks = torch.empty_like(mixing), torch.zeros_like(banks)
        for part, room in _blocks(mixing, banks):
            planes = _mixed(mixing[:, :, part], banks, room.first)
            x, logarithm, output, scale = (tensor[part] for tensor in kept)
            into = Rooms(*(_shaped(third, x) for third in room.third.chunk(3)))
            _leave_scale(grad[part], output, scale, into.first)
            factor = _unit_factor(into.first, 1.0)
            _leave_gates(x, logarithm, ctx.leaks.leak, into)
            factor.mul_(_unit_factor(into.first, factor))
            by_planes = _shaped(room.second, planes)
            _leave_phase(planes, factor.transpose(0, 1), into, by_planes)
            by_mixing[:, :, part] = _leave_mixing(by_planes, mixing[:, :, part], banks, by_banks)
        by_weights = torch.empty_like(weights)
        _parts_of(by_weights).copy_(torch.unflatten(by_banks[:, :, :4], 2, (2, 2)))
        return by_mixing, by_weights, None, None


def _banks(weights: torch.Tensor) -> torch.Tensor:
    """Give the real and imaginary parts of both banks, and a row of ones, [R, 2, 5, N]."""
    parts = _parts_of(weights)
    banks = weights.new_empty(*parts.shape[:2], 5, parts.shape[-1])
    torch.unflatten(banks[:, :, :4], 2, (2, 2)).copy_(parts)
    banks[:, :, 4].fill_(1)
    return banks


def _parts_of(weights: torch.Tensor) -> torch.Tensor:
    """View weights as [R, component, bank, part, N]."""
    return weights[0].flatten(3, 4).permute(0, 2, 1, 4, 3)


def _blocks(mixing: torch.Tensor, banks: torch.Tensor) -> Iterator[tuple[slice, Rooms]]:
    """Cut the samples into blocks, with room for the planes, for their gradients and for the rest."""
    samples, each = mixing.shape[2], 4 * mixing.shape[0] * banks.shape[-1]
    fits = banks.device.type == "cpu" and each <= BLOCK
    step = BLOCK // each if fits else samples
    room = rooms(banks[0, 0, 0, 0]) if fits else Rooms(*(banks.new_empty(samples * each) for _ in range(3)))
    for start in range(0, samples, step):
        yield slice(start, start + step), room


def _leaking_logarithm(x: torch.Tensor, leak: float, out: torch.Tensor, room: torch.Tensor) -> None:
    """Write siglog(x) + leak · x, without memory of its own."""
    torch.abs(x, out=out).add_(_SIGLOG_SHIFT).div_(math.e).log1p_()
    out.mul_(torch.sign(x, out=room)).add_(x, alpha=leak)


def _shaped(room: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return room[: like.numel()].view(like.shape)


def _mixed(mixing: torch.Tensor, banks: torch.Tensor, room: torch.Tensor) -> torch.Tensor:
    """Write the planes, [R, 2, B, 2, N]."""
    shape = (*mixing.shape[:4], banks.shape[-1])
    planes = room[: math.prod(shape)].view(shape)
    matrices = mixing.reshape(-1, 2 * mixing.shape[2], mixing.shape[-1])
    torch.bmm(matrices, banks.flatten(0, 1), out=planes.view(len(matrices), -1, shape[-1]))
    return planes


def _leave_mixing(
    grad: torch.Tensor, mixing: torch.Tensor, banks: torch.Tensor, by_banks: torch.Tensor
) -> torch.Tensor:
    """Add to the gradient of the banks, and give that of the mixing matrices."""
    rows = grad.flatten(0, 1).flatten(1, 2)
    matrices = mixing.reshape(len(rows), rows.shape[1], -1)
    by_banks.flatten(0, 1).baddbmm_(matrices.transpose(1, 2), rows)
    # The longer factor transposed, which is faster.
    return torch.bmm(banks.flatten(0, 1), rows.transpose(1, 2)).mT.reshape(mixing.shape)


def _project(planes: torch.Tensor, out: torch.Tensor, inverse: torch.Tensor) -> None:
    """Write the projection, [B, R, N], and the inverse of the second component's size."""
    (first_re, first_im), (second_re, second_im) = _parts(planes)
    _invert(second_re, second_im, inverse.transpose(0, 1))
    target = out.transpose(0, 1)
    torch.mul(first_re, second_re, out=target).addcmul_(first_im, second_im)
    out.mul_(inverse)


def _invert(re: torch.Tensor, im: torch.Tensor, out: torch.Tensor) -> None:
    torch.mul(re, re, out=out).addcmul_(im, im).clamp_min_(LEAST_SQUARE).rsqrt_()


def _parts(planes: torch.Tensor) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
    first, second = planes.unbind(1)
    return first.unbind(2), second.unbind(2)


def _leave_scale(grad: torch.Tensor, output: torch.Tensor, scale: torch.Tensor, out: torch.Tensor) -> None:
    """Write the gradient of what the output is a scaled form of."""
    by_output = _unit_factor(grad, 1.0) * scale
    torch.mul(grad, output, out=out)
    by_mean = out.sum(-1, keepdim=True).mul_(by_output).mul_(scale).div_(-2 * output.shape[-1])
    torch.sign(output, out=out).mul_(by_mean).addcmul_(grad, by_output)


def _leave_gates(x: torch.Tensor, logarithm: torch.Tensor, leak: float, into: Rooms) -> None:
    """Turn the gradient in the first room into that of the projection: sigmoid gate times logarithm."""
    grad, gate, slope = into
    torch.abs(x, out=gate).clamp_(torch.finfo(x.dtype).tiny, 1)
    torch.log(gate, out=slope).mul_(gate.sqrt_()).exp_()
    slope.mul_(torch.abs(x, out=gate)).add_(1).reciprocal_().add_(leak)
    torch.sigmoid(x, out=gate)
    slope.mul_(gate.add_(x, alpha=leak))
    # σ(1 − σ) = ¼ − (σ − ½)², which needs no memory; what it loses far out is less than the leak.
    gate.sub_(x, alpha=leak).sub_(0.5).square_()
    grad.mul_(slope.addcmul_(gate, logarithm, value=-1).add_(logarithm, alpha=0.25 + leak))


def _leave_phase(planes: torch.Tensor, factor: torch.Tensor, into: Rooms, out: torch.Tensor) -> None:
    """Write the gradient of both components; ``factor`` times the first room is that of the projection.

    A phase only turns, and doesn't grow: its gradient is across it.
    """
    (first_re, first_im), (second_re, second_im) = _parts(planes)
    (by_first_re, by_first_im), (by_second_re, by_second_im) = _parts(out)
    grad, inverse, scaled = (room.transpose(0, 1) for room in into)
    _invert(second_re, second_im, inverse)
    torch.mul(grad, inverse, out=scaled).mul_(factor)
    torch.mul(scaled, second_re, out=by_first_re)
    torch.mul(scaled, second_im, out=by_first_im)
    # Row by row first: a norm over several strided dimensions at once is slow.
    rows = [
        torch.linalg.vector_norm(torch.mul(grad, part, out=by_second_re), dim=2, keepdim=True)
        for part in (first_re, first_im)
    ]
    norm = torch.linalg.vector_norm(torch.cat(rows), dim=0, keepdim=True) * factor
    turn = torch.mul(first_im, second_re, out=grad).addcmul_(first_re, second_im, value=-1)
    turn.mul_(scaled.mul_(inverse.square_())).mul_(math.sqrt(2 * grad[:, 0].numel()) / (norm + _EPSILON))
    torch.mul(turn, second_re, out=by_second_im)
    torch.mul(turn.neg_(), second_im, out=by_second_re)


def _unit_factor(grad: torch.Tensor, factor: torch.Tensor | float) -> torch.Tensor:
    """Give what brings each sample of a gradient, once multiplied by ``factor``, to unit mean square."""
    norm = torch.linalg.vector_norm(grad, dim=(1, 2), keepdim=True)
    size: torch.Tensor = norm * factor + _EPSILON
    return math.sqrt(grad[0].numel()) / size

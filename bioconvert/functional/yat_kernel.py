"""The Yat product and its gradients block by block, in few passes over memory.

The same mathematics as in :mod:`bioconvert.functional.yat_formula`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from bioconvert.functional.blocks import Place, at, places, rooms, shaped
from bioconvert.functional.eager import has_values
from bioconvert.functional.near import Watch
from bioconvert.functional.totals import Total
from bioconvert.functional.yat_formula import Coefficient, Terms


class Forward(NamedTuple):
    """What :func:`forward` finds on its way.

    Args:
        quotient: :math:`q = (t + b) / D`, if it is to be kept.
        far: where the squared distance lies above its floor; ``None`` for everywhere.
        near: the indices in dimension 0 of inputs so near a weight that fp32 gets them wrong.
    """

    quotient: torch.Tensor | None
    far: torch.Tensor | None
    near: torch.Tensor


class Gradients(NamedTuple):
    """Gradients of the score and of each of the :class:`Terms`; ``None`` where not asked for."""

    score: torch.Tensor
    input_norm: torch.Tensor | None
    weight_norm: torch.Tensor | None
    units: tuple[torch.Tensor | None, ...]


def forward(score: torch.Tensor, terms: Terms, floor: float, *, out: torch.Tensor, keep: bool) -> Forward:
    """Write the Yat product, and add the bias to the score.

    Args:
        score: as in :func:`bioconvert.functional.yat_formula.value`; contiguous, and changed in place.
        terms: likewise; with as many dimensions as the score.
        floor: likewise.
        out: where the product goes, of the shape of the score; the score itself, if it isn't needed any more.
        keep: whether the quotient is to be kept.
    """
    quotient = torch.empty_like(score) if keep else None
    watch = Watch(score, terms, floor)
    shift = terms.weight_norm + terms.epsilon
    scale, offset = _number(terms.alpha), _tensor(terms.offset, score)
    for place in places(score):
        part, y = at(score, place), at(out, place)
        q = shaped(rooms(score).first, part) if quotient is None else at(quotient, place)
        torch.add(at(terms.input_norm, place), at(shift, place), out=q).sub_(part, alpha=2)
        watch.hold(q, place)
        if terms.bias is not None:
            part.add_(_at(terms.bias, place))
        torch.div(part, q, out=q)
        if scale is not None:
            torch.addcmul(at(offset, place), part, q, value=scale, out=y)
        else:
            torch.mul(part, q, out=y).mul_(_at(terms.alpha, place)).add_(at(offset, place))
    return Forward(quotient, watch.far, watch.near)


class Kept(NamedTuple):
    """What the backward needs of the forward.

    Args:
        quotient: :math:`q`.
        far: as in :class:`Forward`.
        biased: :math:`t + b`; needed for the gradient of alpha alone.
    """

    quotient: torch.Tensor
    far: torch.Tensor | None
    biased: torch.Tensor | None


def backward(
    grad: torch.Tensor, kept: Kept, alpha: Coefficient | None, floor: float, sums: dict[str, Total]
) -> torch.Tensor:
    r"""Give the gradient of the score, to be used before the next call, and add up those of the terms.

    .. math::
        q = (t + b) / D, \quad \partial y / \partial b = 2 \alpha q, \; \partial y / \partial D = -\alpha q^2

    Args:
        grad: gradient of the output.
        kept: what the forward left.
        alpha: factor of the quotient.
        floor: as in :func:`forward`.
        sums: for each of the :class:`Terms` whose gradient is asked for, its total; for what enters the
            denominator, of -2 times its gradient.
    """
    spaces = rooms(kept.quotient)
    by_score = _room_for(kept.quotient, spaces.third)
    scale = _number(alpha)
    # A gradient of alpha is taken from what alpha has multiplied already, if there is a way back.
    twice = 2 * scale if scale else None
    zero = kept.quotient.new_zeros(1)
    for place in places(kept.quotient):
        onward, quotient, rise = at(grad, place), at(kept.quotient, place), at(by_score, place)
        if twice is not None:
            torch.addcmul(zero, onward, quotient, value=twice, out=rise)
        else:
            torch.mul(onward, quotient, out=rise)
        if kept.biased is not None and "alpha" in sums:
            sums["alpha"].add_product(rise, at(kept.biased, place), place)
        if twice is None:
            rise.mul_(2).mul_(_at(alpha, place))
        fall = torch.mul(rise, quotient, out=shaped(spaces.first, rise))
        _add(sums, ("offset",), onward, place)
        _add(sums, ("bias",), rise, place)
        _add(sums, ("epsilon",), fall, place)
        far = None if kept.far is None else at(kept.far, place)
        by_norms = fall if far is None else fall * torch.where(far, 1.0, floor)
        _add(sums, ("input_norm", "weight_norm"), by_norms, place)
        rise.add_(fall if far is None else fall.mul_(far))
    if twice is not None and "alpha" in sums:
        sums["alpha"].divide(twice)
    return by_score


def _add(sums: dict[str, Total], names: tuple[str, ...], block: torch.Tensor, place: Place) -> None:
    for name in names:
        if name in sums:
            sums[name].add(block, place)


def _room_for(like: torch.Tensor, room: torch.Tensor) -> torch.Tensor:
    """Give room for a gradient that won't outlive the backward: a kept one, if it is large enough."""
    return shaped(room, like) if like.numel() <= room.numel() else torch.empty_like(like)


def _at(term: Coefficient | None, place: Place) -> Coefficient:
    if term is None:
        return 1.0
    return at(term, place) if isinstance(term, torch.Tensor) else term


def _number(term: Coefficient | None) -> float | None:
    """Give a coefficient that is the same everywhere, if its value can be looked at for free."""
    if not isinstance(term, torch.Tensor):
        return 1.0 if term is None else float(term)
    return term.item() if term.numel() == 1 and has_values(term) else None


def _tensor(term: Coefficient | None, like: torch.Tensor) -> torch.Tensor:
    """Give a coefficient as a tensor that broadcasts."""
    if isinstance(term, torch.Tensor):
        return term
    return like.new_full([1] * like.dim(), 0.0 if term is None else term)

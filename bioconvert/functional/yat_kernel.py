"""The Yat product and its gradients block by block, in reused buffers.

The same mathematics as in :mod:`bioconvert.functional.yat_formula`, with a third of its memory traffic.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from bioconvert.functional.blocks import Place, at, places, rooms, shaped
from bioconvert.functional.totals import Total, least_in
from bioconvert.functional.yat_formula import Coefficient, Terms


class Gradients(NamedTuple):
    """Gradients of the score and of each of the :class:`Terms`; ``None`` where not asked for."""

    score: torch.Tensor
    input_norm: torch.Tensor | None
    weight_norm: torch.Tensor | None
    units: tuple[torch.Tensor | None, ...]


def forward(
    score: torch.Tensor, terms: Terms, floor: float, *, look: bool, out: torch.Tensor
) -> torch.Tensor | None:
    """Write the Yat product, and give how near each input comes to any weight.

    Args:
        score: as in :func:`bioconvert.functional.yat_formula.value`; contiguous.
        terms: likewise; with as many dimensions as the score.
        floor: likewise.
        look: whether to give, for each input, how far the nearest weight lies above the floor, plus epsilon.
        out: where the product goes, of the shape of the score.
    """
    least = None
    parts = _Parts(score, terms, floor)
    for place in places(score):
        part, y = at(score, place), at(out, place)
        margin = parts.margin(part, place, clamped=True)
        if look:
            least = least_in(margin, place, least, terms.input_norm)
        denominator = parts.with_floor(margin, place)
        torch.square(parts.biased(part, place, y), out=y).div_(denominator)
        if terms.alpha is not None:
            y.mul_(_at(terms.alpha, place))
        if terms.offset is not None:
            y.add_(at(terms.offset, place))
    return least


def backward(
    grad: torch.Tensor,
    score: torch.Tensor,
    terms: Terms,
    floor: float,
    *,
    needed: tuple[bool, ...],
    clear: bool,
) -> Gradients:
    r"""Give the gradients of :func:`forward`; that of the score is to be used before the next call.

    .. math::
        q = (t + b) / D, \quad \partial y / \partial b = 2 \alpha q, \; \partial y / \partial D = -\alpha q^2

    Args:
        grad: gradient of the output.
        score: as in :func:`forward`.
        terms: likewise.
        floor: likewise.
        needed: for each of the terms, whether its gradient is asked for.
        clear: whether it is known that no distance lies at its floor, where the score has no influence on it.
    """
    sums = _Sums(terms, needed)
    twice = 2.0 if terms.alpha is None else 2 * terms.alpha
    parts = _Parts(score, terms, floor)
    by_score = _room_for(score, parts)
    for place in places(score):
        part, rise = at(score, place), at(by_score, place)
        margin = parts.margin(part, place, clamped=not clear)
        far = None if clear else margin > _at(terms.epsilon, place)
        quotient, spare = parts.with_floor(margin, place), shaped(parts.rooms.second, part)
        biased = parts.biased(part, place, spare)
        torch.div(biased, quotient, out=quotient)
        torch.mul(at(grad, place), quotient, out=rise)
        sums.add_product("alpha", rise, biased, place)
        rise.mul_(_at(twice, place))
        fall = torch.mul(rise, quotient, out=spare)
        sums.add("offset", at(grad, place), place)
        sums.add("bias", rise, place)
        sums.add("epsilon", fall, place)
        by_norms = fall if far is None else fall * torch.where(far, 1.0, floor)
        sums.add("input_norm", by_norms, place)
        sums.add("weight_norm", by_norms, place)
        rise.add_(fall if far is None else fall.mul_(far))
    by_input, by_weight, *by_units = sums.gradients()
    return Gradients(by_score, by_input, by_weight, tuple(by_units))


class _Sums:
    """Gradients of the terms, summed up over the blocks."""

    def __init__(self, terms: Terms, needed: tuple[bool, ...]):
        wanted = zip(Terms._fields, terms, needed, strict=True)
        self._totals = {
            name: Total(term) for name, term, need in wanted if need and isinstance(term, torch.Tensor)
        }

    def add(self, name: str, block: torch.Tensor, place: Place) -> None:
        """Add a block to one of them, if it is asked for."""
        if name in self._totals:
            self._totals[name].add(block, place)

    def add_product(self, name: str, one: torch.Tensor, other: torch.Tensor, place: Place) -> None:
        """Add the product of two blocks to one of them, if it is asked for."""
        if name in self._totals:
            self._totals[name].add_product(one, other, place)

    def gradients(self) -> tuple[torch.Tensor | None, ...]:
        """Give them in the order of the terms; what was summed for a distance is -2 times its gradient."""
        found = {name: total.value() for name, total in self._totals.items()}
        for name in found.keys() & {"input_norm", "weight_norm", "epsilon"}:
            found[name].mul_(-0.5)
        return tuple(found.get(name) for name in Terms._fields)


class _Parts:
    """What forward and backward both compute of a block, in the first of its rooms."""

    def __init__(self, score: torch.Tensor, terms: Terms, floor: float):
        self._terms = terms
        self._floor = floor
        self.rooms = rooms(score)
        self._input = (1 - floor) * terms.input_norm if floor else terms.input_norm
        self._weight = ((1 - floor) * terms.weight_norm if floor else terms.weight_norm) + terms.epsilon

    def margin(self, part: torch.Tensor, place: Place, *, clamped: bool) -> torch.Tensor:
        r"""Give how far the squared distance lies above its floor, plus :math:`\varepsilon`."""
        out = shaped(self.rooms.first, part)
        torch.add(at(self._input, place), at(self._weight, place), out=out)
        out.sub_(part, alpha=2)
        return out.clamp_(min=_at(self._terms.epsilon, place)) if clamped else out

    def with_floor(self, margin: torch.Tensor, place: Place) -> torch.Tensor:
        """Turn the margin into the denominator, in place."""
        if self._floor:
            margin.add_(at(self._terms.input_norm, place), alpha=self._floor)
            margin.add_(at(self._terms.weight_norm, place), alpha=self._floor)
        return margin

    def biased(self, part: torch.Tensor, place: Place, out: torch.Tensor) -> torch.Tensor:
        """Give the score plus the bias: the score itself if there is none, otherwise ``out``."""
        bias = self._terms.bias
        return part if bias is None else torch.add(part, at(bias, place), out=out)


def _room_for(score: torch.Tensor, parts: _Parts) -> torch.Tensor:
    """Give room for a gradient that won't outlive the backward: a kept one, if it is large enough."""
    room = parts.rooms.third
    return shaped(room, score) if score.numel() <= room.numel() else torch.empty_like(score)


def _at(term: Coefficient, place: Place) -> Coefficient:
    return at(term, place) if isinstance(term, torch.Tensor) else term

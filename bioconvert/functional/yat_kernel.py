"""The Yat product and its gradients block by block, in reused buffers.

The same mathematics as in :mod:`bioconvert.functional.yat_formula`, with a third of its memory traffic.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from bioconvert.functional.blocks import Place, at, buffers, places, shaped
from bioconvert.functional.totals import Total, least_in
from bioconvert.functional.yat_formula import Coefficient, Terms


class Gradients(NamedTuple):
    """Gradients of the score and of each of the :class:`Terms`; ``None`` where not asked for."""

    score: torch.Tensor
    input_norm: torch.Tensor | None
    weight_norm: torch.Tensor | None
    units: tuple[torch.Tensor | None, ...]


def forward(
    score: torch.Tensor, terms: Terms, floor: float, *, look: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Give the Yat product, and how near each input comes to any weight.

    Args:
        score: as in :func:`bioconvert.functional.yat_formula.value`; contiguous.
        terms: likewise; with as many dimensions as the score.
        floor: likewise.
        look: whether to give the least denominator of each input, of the shape of its norm.
    """
    y, least = torch.empty_like(score), None
    parts = _Parts(score, terms, floor)
    for place in places(score):
        part, out = at(score, place), at(y, place)
        denominator, _ = parts.denominator(part, place, masked=False)
        if look:
            least = least_in(denominator, place, least, terms.input_norm)
        torch.square(parts.biased(part, place, out), out=out).div_(denominator)
        if terms.alpha is not None:
            out.mul_(_at(terms.alpha, place))
        if terms.offset is not None:
            out.add_(at(terms.offset, place))
    return y, least


def backward(
    grad: torch.Tensor,
    score: torch.Tensor,
    terms: Terms,
    floor: float,
    *,
    needed: tuple[bool, ...],
    masked: bool,
) -> Gradients:
    r"""Give the gradients of :func:`forward`.

    .. math::
        q = (t + b) / D \qquad \partial y / \partial b = 2 \alpha q \qquad \partial y / \partial D = -\alpha q^2

    Args:
        grad: gradient of the output.
        score: as in :func:`forward`.
        terms: likewise.
        floor: likewise.
        needed: for each of the terms, whether its gradient is asked for.
        masked: whether a distance may lie at its floor, where the score has no influence on it.
    """
    by_score = torch.empty_like(score)
    sums = _Sums(terms, needed)
    twice = 2.0 if terms.alpha is None else 2 * terms.alpha
    parts = _Parts(score, terms, floor)
    for place in places(score):
        part, rise = at(score, place), at(by_score, place)
        quotient, far = parts.denominator(part, place, masked=masked)
        spare = shaped(parts.spare, part)
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
        self._totals = {name: Total(term) for name, term, need in wanted if need and isinstance(term, torch.Tensor)}

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
        for name in ("input_norm", "weight_norm", "epsilon"):
            if name in self._totals:
                self._totals[name].value().mul_(-0.5)
        return tuple(self._totals[name].value() if name in self._totals else None for name in Terms._fields)


class _Parts:
    """What forward and backward both compute of a block, in one buffer; ``spare`` is another, for them to use."""

    def __init__(self, score: torch.Tensor, terms: Terms, floor: float):
        self._terms = terms
        self._floor = floor
        self._room, self.spare = buffers(score)
        self._input = (1 - floor) * terms.input_norm if floor else terms.input_norm
        self._weight = ((1 - floor) * terms.weight_norm if floor else terms.weight_norm) + terms.epsilon

    def denominator(
        self, part: torch.Tensor, place: Place, *, masked: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Give the floored distance plus epsilon, and where the distance lies above its floor."""
        out = shaped(self._room, part)
        epsilon = _at(self._terms.epsilon, place)
        torch.add(at(self._input, place), at(self._weight, place), out=out)
        out.sub_(part, alpha=2).clamp_(min=epsilon)
        far = out > epsilon if masked else None
        if self._floor:
            out.add_(at(self._terms.input_norm, place), alpha=self._floor)
            out.add_(at(self._terms.weight_norm, place), alpha=self._floor)
        return out, far

    def biased(self, part: torch.Tensor, place: Place, out: torch.Tensor) -> torch.Tensor:
        """Give the score plus the bias: the score itself if there is none, otherwise ``out``."""
        bias = self._terms.bias
        return part if bias is None else torch.add(part, at(bias, place), out=out)


def _at(term: Coefficient, place: Place) -> Coefficient:
    return at(term, place) if isinstance(term, torch.Tensor) else term

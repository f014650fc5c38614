"""The Yat product and its gradients block by block, in reused buffers, for plain tensors.

The same mathematics as in :mod:`bioconvert.functional.yat_formula`, with a third of its memory traffic.
"""

from __future__ import annotations

import torch

from bioconvert.functional.blocks import Place, at, buffers, places
from bioconvert.functional.totals import Total, least_in
from bioconvert.functional.yat_formula import Coefficient, Gradients, Terms


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
    """Give the gradients of :func:`forward`, each of the shape of what it belongs to.

    Args:
        grad: gradient of the output.
        score: as in :func:`forward`.
        terms: likewise.
        floor: likewise.
        needed: for each of the terms, whether its gradient is asked for.
        masked: whether a distance may lie at its floor, where the score has no influence on it.
    """
    by_score = torch.empty_like(score)
    by_input, by_weight, by_bias, by_alpha, by_epsilon, by_offset = map(_total, terms, needed)
    twice = 2.0 if terms.alpha is None else 2 * terms.alpha
    parts = _Parts(score, terms, floor)
    for place in places(score):
        part, rise, grad_part = at(score, place), at(by_score, place), at(grad, place)
        quotient, far = parts.denominator(part, place, masked=masked)
        biased = parts.biased(part, place, parts.spare(part))
        torch.div(biased, quotient, out=quotient)
        torch.mul(grad_part, quotient, out=rise)
        by_alpha.add_product(rise, biased, place)
        rise.mul_(_at(twice, place))
        fall = torch.mul(rise, quotient, out=parts.spare(part))
        by_offset.add(grad_part, place)
        by_bias.add(rise, place)
        by_epsilon.add(fall, place)
        by_norms = fall if far is None else fall * torch.where(far, 1.0, floor)
        by_input.add(by_norms, place)
        by_weight.add(by_norms, place)
        rise.add_(fall if far is None else fall.mul_(far))
    return (
        by_score,
        by_input.times(-0.5),
        by_weight.times(-0.5),
        by_bias.times(1.0),
        by_alpha.times(1.0),
        by_epsilon.times(-0.5),
        by_offset.times(1.0),
    )


class _Parts:
    """What forward and backward both compute of a block, each in its own buffer."""

    def __init__(self, score: torch.Tensor, terms: Terms, floor: float):
        self._terms = terms
        self._floor = floor
        self._buffers = buffers(score, 2)
        self._input = (1 - floor) * terms.input_norm if floor else terms.input_norm
        self._weight = torch.add(terms.epsilon, terms.weight_norm, alpha=1 - floor)

    def spare(self, part: torch.Tensor) -> torch.Tensor:
        """Give a buffer that nothing else here uses."""
        return self._buffers[1, : part.numel()].view(part.shape)

    def denominator(
        self, part: torch.Tensor, place: Place, *, masked: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Give the floored distance plus epsilon, and where the distance lies above its floor."""
        out = self._buffers[0, : part.numel()].view(part.shape)
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


def _total(term: Coefficient | None, needed: bool) -> Total:
    return Total(term if needed and isinstance(term, torch.Tensor) else None)

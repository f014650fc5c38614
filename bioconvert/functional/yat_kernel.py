"""The Yat product and its gradients block by block, in reused buffers, for plain tensors.

The same mathematics as in :mod:`bioconvert.functional.yat_formula`, with a third of its memory traffic.
"""

from __future__ import annotations

from math import inf

import torch

from bioconvert.functional.blocks import BLOCK, Place, add_reduced, at, blocks
from bioconvert.functional.yat_formula import Coefficient, Gradients, Terms

Sums = list[torch.Tensor | None]


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
    y = torch.empty_like(score)
    least = torch.full_like(terms.input_norm, inf) if look else None
    walk = _Walk(score, terms, floor)
    for place in walk.places:
        part, out = score[place], y[place]
        denominator, _ = walk.denominator(part, place, masked=False)
        if least is not None:
            _lower(at(least, place), denominator)
        walk.biased(part, place, out).square_().div_(denominator)
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
    sums: Sums = [_zeros(term) if need else None for term, need in zip(terms, needed, strict=True)]
    by_input, by_weight, by_bias, by_alpha, by_epsilon, by_offset = sums
    twice = 2.0 if terms.alpha is None else 2 * terms.alpha
    walk = _Walk(score, terms, floor)
    for place in walk.places:
        part, rise = score[place], by_score[place]
        quotient, far = walk.denominator(part, place, masked=masked)
        biased = walk.biased(part, place, walk.spare(part))
        torch.div(biased, quotient, out=quotient)
        torch.mul(grad[place], quotient, out=rise)
        _add_inner(by_alpha, rise, biased, place)
        rise.mul_(_at(twice, place))
        fall = torch.mul(rise, quotient, out=biased)
        _add(by_offset, grad[place], place)
        _add(by_bias, rise, place)
        _add(by_epsilon, fall, place, -0.5)
        if far is not None:
            _add(by_input, fall, place, -0.5 * floor)
            _add(by_weight, fall, place, -0.5 * floor)
            fall.mul_(far)
        share = -0.5 if far is None else -0.5 * (1 - floor)
        _add(by_input, fall, place, share)
        _add(by_weight, fall, place, share)
        rise.add_(fall)
    return (by_score, *sums)


class _Walk:
    """The blocks of a score, and what forward and backward both compute of each, in the same buffers."""

    def __init__(self, score: torch.Tensor, terms: Terms, floor: float):
        self.places = list(blocks(score.shape, BLOCK if score.device.type == "cpu" else score.numel()))
        self._buffers = score.new_empty(2, score[self.places[0]].numel())
        self._terms = terms
        self._floor = floor
        self._input = (1 - floor) * terms.input_norm if floor else terms.input_norm
        self._weight = (1 - floor) * terms.weight_norm + terms.epsilon

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
        """Give the score plus the bias, in ``out``."""
        if self._terms.bias is None:
            return out.copy_(part)
        return torch.add(part, at(self._terms.bias, place), out=out)


def _at(term: Coefficient, place: Place) -> Coefficient:
    return at(term, place) if isinstance(term, torch.Tensor) else term


def _zeros(term: Coefficient | None) -> torch.Tensor | None:
    return torch.zeros_like(term) if isinstance(term, torch.Tensor) else None


def _lower(least: torch.Tensor, block: torch.Tensor) -> None:
    """Lower ``least`` to the minimum of a block, over the dimensions in which ``least`` has size 1."""
    dims = [dim for dim in range(block.dim()) if least.shape[dim] == 1]
    torch.minimum(least, block.amin(dims, keepdim=True) if dims else block, out=least)


def _add(total: torch.Tensor | None, block: torch.Tensor, place: Place, factor: float = 1.0) -> None:
    if total is not None:
        add_reduced(total, block, place, factor)


def _add_inner(total: torch.Tensor | None, one: torch.Tensor, other: torch.Tensor, place: Place) -> None:
    """Add the sum of a product; a single number needs no room for the product itself."""
    if total is None:
        return
    if total.numel() == 1:
        total.add_(torch.dot(one.view(-1), other.view(-1)))
    else:
        add_reduced(total, one * other, place)

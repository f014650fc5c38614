"""Inputs that lie so near a weight that fp32 can't tell their distance, and distances at their floor."""

from __future__ import annotations

from functools import cached_property

import torch

from bioconvert.functional.blocks import Place, at
from bioconvert.functional.eager import has_values
from bioconvert.functional.totals import least_in
from bioconvert.functional.yat_formula import Terms

NEAR = 2e-3
"""A squared distance below this part of the squared norms is a difference too small for fp32.

Its rounding error is at most 6e-7 of the squared norms (measured for 16 to 4096 features), so that what is
not near is right to 3e-4.
"""

_APART = 1.2
"""Squared norms that differ by this factor or more are those of vectors that aren't near each other.

By the triangle inequality the squared distance is at least the squared difference of the norms, here
:math:`(\\sqrt{1.2} - 1)^2 / 2.2 = 4.1 \\cdot 10^{-3}` of the squared norms, more than twice ``NEAR``.
"""


class Watch:
    """Looks out, block by block, for denominators that are too small.

    Where values can't be looked at, every denominator is held above its floor, and none counts as near.

    Args:
        score: the scores.
        terms: what else enters the product.
        floor: least squared distance, in units of the squared norms.
    """

    def __init__(self, score: torch.Tensor, terms: Terms, floor: float):
        self.far: torch.Tensor | None = None
        self._score, self._terms, self._floor = score, terms, floor
        self._near: torch.Tensor | None = None
        self._looks = has_values(score)
        self._part = NEAR if score.dtype == torch.float32 else 0.0
        self._idle = self._looks and floor <= NEAR / 2 and _apart(terms)

    @property
    def near(self) -> torch.Tensor:
        """The indices in dimension 0 of inputs that are near some weight."""
        return no_inputs(self._score) if self._near is None else self._near.nonzero().squeeze(1)

    def hold(self, denominator: torch.Tensor, place: Place) -> None:
        """Note which denominators of a block are too small, and raise them to their least value."""
        if self._idle or (self._looks and not self._is_doubtful(denominator, place)):
            return
        total = at(self._terms.input_norm, place) + at(self._terms.weight_norm, place)
        if self._looks and self._part:
            self._note_near(denominator < self._part * total, place)
        epsilon = self._terms.epsilon
        least = self._floor * total + (at(epsilon, place) if isinstance(epsilon, torch.Tensor) else epsilon)
        if self.far is None:
            self.far = torch.ones_like(self._score, dtype=torch.bool)
        torch.gt(denominator, least, out=at(self.far, place))
        torch.maximum(denominator, least, out=denominator)

    def _is_doubtful(self, denominator: torch.Tensor, place: Place) -> bool:
        """Say whether a block may hold a denominator that is near its floor, or that fp32 gets wrong."""
        inputs, part = at(self._terms.input_norm, place), max(self._part, self._floor)
        return bool((least_in(denominator, inputs) <= torch.add(self._most, inputs, alpha=part)).any())

    @cached_property
    def _most(self) -> torch.Tensor:
        """The most that weights and epsilon add to what a doubtful denominator is below."""
        part, epsilon = max(self._part, self._floor), self._terms.epsilon
        most = epsilon.amax() if isinstance(epsilon, torch.Tensor) else epsilon
        return self._terms.weight_norm.amax() * part + most

    def _note_near(self, near: torch.Tensor, place: Place) -> None:
        if self._near is None:
            self._near = torch.zeros(self._score.shape[0], dtype=torch.bool)
        part = self._near[place[0]] if place else self._near
        part.logical_or_(near.flatten(1).any(1))


def no_inputs(score: torch.Tensor) -> torch.Tensor:
    """Give no index at all."""
    return score.new_empty(0, dtype=torch.long)


def _apart(terms: Terms) -> bool:
    """Say whether the norms alone tell that no input is near a weight."""
    least, most = (bound.item() for bound in terms.weight_norm.aminmax())
    smallest, largest = (bound.item() for bound in terms.input_norm.aminmax())
    return smallest >= _APART * most or _APART * largest <= least

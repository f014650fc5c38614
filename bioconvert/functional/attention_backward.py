"""The gradients of Yat attention, tile by tile, in reused memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from bioconvert.functional.attention_dropout import Draw
from bioconvert.functional.attention_near import Near, pull_near
from bioconvert.functional.attention_scores import Scores
from bioconvert.functional.attention_tiles import Tile
from bioconvert.functional.blocks import Rooms
from bioconvert.functional.yat_formula import Coefficient


class Incoming(NamedTuple):
    """What the backward of a call starts from.

    Args:
        v: values.
        out: the output.
        logarithm: of each row's sum of exponentials.
        by_out: gradient of the output, or ``None``.
        by_weights: gradient of the weights, or ``None``; only with whole rows.
    """

    v: torch.Tensor
    out: torch.Tensor
    logarithm: torch.Tensor
    by_out: torch.Tensor | None
    by_weights: torch.Tensor | None


class Backward:
    r"""Sums up the gradients of all operands over the tiles.

    With :math:`u = t / D` and the gradient :math:`g` of a logit :math:`t u`, that of :math:`t` is
    :math:`2 g u (1 + u / c)`, and that of a squared norm the sum of :math:`-g u^2 / c`.

    Args:
        scores: computes the logits again.
        incoming: what to start from.
        draw: draws what was dropped.
        coefficients: alpha and epsilon.
        needed: whether the gradients of mask, alpha and epsilon are asked for.
    """

    def __init__(
        self,
        scores: Scores,
        incoming: Incoming,
        draw: Draw | None,
        coefficients: Sequence[Coefficient | None],
        needed: Sequence[bool],
    ):
        self._scores, self._incoming, self._draw = scores, incoming, draw
        self._alpha = coefficients[0]
        self.by_q, self.by_k = torch.zeros_like(scores.q), torch.zeros_like(scores.k)
        self.by_v = torch.zeros_like(incoming.v)
        self._q_fall, self._k_fall = torch.zeros_like(scores.q_norm), torch.zeros_like(scores.k_norm)
        operands = zip(("mask", "alpha", "epsilon"), (scores.mask, *coefficients), needed, strict=True)
        self._sums = {
            name: torch.zeros_like(each)
            for name, each, need in operands
            if need and isinstance(each, torch.Tensor)
        }
        self._delta = None if incoming.by_weights is not None else _delta(incoming)

    def add(self, t: torch.Tensor, tile: Tile, rooms: Rooms, *, look: bool) -> None:
        """Add a tile.

        Args:
            t: products of its queries and keys.
            tile: the tile.
            rooms: memory for three of its size.
            look: whether there are near pairs in it.
        """
        quotient = tile.shaped(rooms.first)
        near = self._scores.denominator(t, tile, quotient, look=look)
        torch.div(t, quotient, out=quotient)
        weights = self._scores.logits(t, quotient, tile, tile.shaped(rooms.second))
        weights.sub_(tile.of_queries(self._incoming.logarithm)).exp_()
        rise = self._by_logits(weights, tile, tile.shaped(rooms.third)).mul_(quotient)
        self._put_product("alpha", rise, t, tile)
        if self._scores.factor is not None:
            tile.unfolded(rise).mul_(self._scores.factor_of(tile))
        self._add_products(rise, torch.mul(rise, quotient, out=weights), tile, near)

    def gradients(self) -> tuple[torch.Tensor | None, ...]:
        """Give the gradients of queries, keys, values, mask, alpha and epsilon."""
        inverse = -1 / self._scores.constant
        by_q = self.by_q.addcmul_(self._scores.q, self._q_fall, value=inverse).mul_(2)
        by_k = self.by_k.addcmul_(self._scores.k, self._k_fall, value=inverse).mul_(2)
        if self._alpha is not None and "alpha" in self._sums and self._scores.factor is None:
            self._sums["alpha"].div_(self._alpha)
        if "epsilon" in self._sums:
            self._sums["epsilon"].mul_(inverse)
        return by_q, by_k, self.by_v, *(self._sums.get(name) for name in ("mask", "alpha", "epsilon"))

    def _by_logits(self, weights: torch.Tensor, tile: Tile, out: torch.Tensor) -> torch.Tensor:
        """Write the gradients of the logits, and add those of the values."""
        given, delta = self._incoming, self._delta
        kept = None if self._draw is None else self._draw.of(tile, weights)
        if given.by_out is None:
            out.zero_()
        else:
            by_out = tile.of_queries(given.by_out)
            torch.bmm(by_out, tile.of_keys(given.v).transpose(1, 2), out=out)
            used = weights if kept is None else weights * kept
            tile.of_keys(self.by_v).baddbmm_(used.transpose(1, 2), by_out)
        if given.by_weights is not None:
            out.add_(tile.of_pairs(given.by_weights))
        if kept is not None:
            out.mul_(kept)
        rows = (out * weights).sum(-1, keepdim=True) if delta is None else tile.of_queries(delta)
        out.sub_(rows).mul_(weights)
        self._put("mask", out, tile)
        return out

    def _add_products(self, rise: torch.Tensor, fall: torch.Tensor, tile: Tile, near: Near | None) -> None:
        """Add what reaches queries and keys through their products and their distances."""
        q, k = tile.of_queries(self._scores.q), tile.of_keys(self._scores.k)
        by_q, by_k = tile.of_queries(self.by_q), tile.of_keys(self.by_k)
        inverse = 1 / self._scores.constant
        self._put("epsilon", fall, tile)
        if near is not None:
            pulls = pull_near(near, fall[near.pairs] * -inverse, q, k, self._scores.floor)
            by_q.index_put_((near.batch, near.query), pulls[0], accumulate=True)
            by_k.index_put_((near.batch, near.key), pulls[1], accumulate=True)
            fall[near.pairs] = 0.0
        tile.of_queries(self._q_fall).add_(fall.sum(2, keepdim=True))
        tile.of_keys(self._k_fall).add_(fall.sum(1)[..., None])
        rise.add_(fall, alpha=inverse)
        by_q.baddbmm_(rise, k)
        by_k.baddbmm_(rise.transpose(1, 2), q)

    def _put(self, name: str, block: torch.Tensor, tile: Tile) -> None:
        """Add a tile to a sum, if it is asked for."""
        if name in self._sums:
            part = tile.spread(self._sums[name])
            part.add_(tile.unfolded(block).sum_to_size(part.shape))

    def _put_product(self, name: str, one: torch.Tensor, other: torch.Tensor, tile: Tile) -> None:
        """Add the product of two tiles to a sum; a single number needs no room for the product itself."""
        if name in self._sums and self._sums[name].numel() == 1:
            self._sums[name].add_(torch.dot(one.view(-1), other.view(-1)))
        elif name in self._sums:
            self._put(name, one * other, tile)


def _delta(incoming: Incoming) -> torch.Tensor:
    """Give each row's mean gradient of the weights, which the output tells."""
    assert incoming.by_out is not None
    return (incoming.by_out * incoming.out).sum(-1, keepdim=True)

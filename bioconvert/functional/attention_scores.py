"""Scores, denominators and logits of queries and keys, tile by tile, in reused memory."""

from __future__ import annotations

import math

import torch

from bioconvert.functional.attention_formula import Scoring
from bioconvert.functional.attention_near import NEAR, Near, near_pairs
from bioconvert.functional.attention_tiles import Tile
from bioconvert.functional.eager import has_values
from bioconvert.functional.yat_formula import Coefficient


class Scores:
    r"""Computes parts of :math:`t^2 / D` with :math:`D = (X + W - 2t + \varepsilon) / c`.

    Args:
        q: queries :math:`(N, h, L, d)`.
        k: keys :math:`(N, h, S, d)`.
        mask: added to the logits, in four dimensions that broadcast; or ``None``.
        scoring: makes the logits.
        causal: whether a query sees no key behind its own place.
    """

    def __init__(
        self, q: torch.Tensor, k: torch.Tensor, mask: torch.Tensor | None, scoring: Scoring, causal: bool
    ):
        self.q, self.k, self.mask, self.causal = q, k, mask, causal
        self.floor = scoring.floor
        self.constant, self.factor = _factors(scoring)
        self._epsilon = scoring.epsilon
        self.q_norm, self.k_norm = (each.square().sum(-1, keepdim=True) for each in (q, k))
        self._q_part = (self.q_norm + scoring.epsilon).div_(self.constant)
        self._k_part = self.k_norm / self.constant

    def product(self, tile: Tile, out: torch.Tensor) -> torch.Tensor:
        """Write the dot products :math:`t` of a tile."""
        return torch.bmm(tile.of_queries(self.q), tile.of_keys(self.k).transpose(1, 2), out=out)

    def logits_of(self, t: torch.Tensor, tile: Tile, out: torch.Tensor) -> tuple[torch.Tensor, bool]:
        """Write the logits of products :math:`t`, and say whether there are near pairs among them."""
        near = self.denominator(t, tile, out, look=True)
        return self.logits(t, torch.div(t, out, out=out), tile, out), near is not None

    def denominator(self, t: torch.Tensor, tile: Tile, out: torch.Tensor, *, look: bool) -> Near | None:
        """Write :math:`D`; near pairs get their right distance, where values can be looked at.

        Args:
            t: the products.
            tile: the tile.
            out: memory for it.
            look: whether there may be near pairs.
        """
        torch.add(tile.of_queries(self._q_part), tile.of_keys(self._k_part).transpose(1, 2), out=out)
        out.sub_(t, alpha=2 / self.constant)
        if not has_values(t):
            torch.maximum(out, self._least(tile, out), out=out)
            return None
        return self._settled(tile, out) if look else None

    def logits(self, t: torch.Tensor, quotient: torch.Tensor, tile: Tile, out: torch.Tensor) -> torch.Tensor:
        """Write the logits, masks added.

        Args:
            t: the products.
            quotient: these over :math:`D`.
            tile: the tile.
            out: memory for the logits.
        """
        torch.mul(t, quotient, out=out)
        spread = tile.unfolded(out)
        if self.factor is not None:
            spread.mul_(self.factor_of(tile))
        if self.mask is not None:
            spread.add_(tile.spread(self.mask))
        hidden = self._hidden(tile, out)
        return out if hidden is None else out.masked_fill_(hidden, -math.inf)

    def factor_of(self, tile: Tile) -> Coefficient:
        """Give what a tile's quotients are still to be multiplied by."""
        factor = 1.0 if self.factor is None else self.factor
        return tile.spread(factor) if isinstance(factor, torch.Tensor) else factor

    def _settled(self, tile: Tile, out: torch.Tensor) -> Near | None:
        """Correct the denominators of near pairs, if there are any."""
        epsilon = self._epsilon_of(tile, out)
        q_norm, k_norm = tile.of_queries(self.q_norm), tile.of_keys(self.k_norm).transpose(1, 2)
        most = NEAR * (q_norm + k_norm.amax(-1, keepdim=True)) + epsilon
        if not bool((out.amin(-1, keepdim=True) * self.constant < most).any()):
            return None
        total = q_norm + k_norm
        close = out * self.constant < NEAR * total + epsilon
        near = near_pairs(close, total, tile.of_queries(self.q), tile.of_keys(self.k), self.floor)
        own = epsilon.expand(out.shape)[near.pairs] if isinstance(epsilon, torch.Tensor) else epsilon
        out[near.pairs] = (near.distance + own) / self.constant
        return near

    def _least(self, tile: Tile, like: torch.Tensor) -> torch.Tensor:
        """Give what a denominator can't be less than."""
        epsilon = self._epsilon_of(tile, like)
        return torch.as_tensor(epsilon, dtype=like.dtype, device=like.device) / self.constant

    def _epsilon_of(self, tile: Tile, like: torch.Tensor) -> torch.Tensor | float:
        if not isinstance(self._epsilon, torch.Tensor):
            return self._epsilon
        batch, heads = tile.batch.stop - tile.batch.start, tile.heads.stop - tile.heads.start
        return tile.spread(self._epsilon).expand(batch, heads, 1, 1).reshape(like.shape[0], 1, 1)

    def _hidden(self, tile: Tile, like: torch.Tensor) -> torch.Tensor | None:
        """Say which pairs of a tile the causal mask hides, if any."""
        if not self.causal or tile.keys.stop - 1 <= tile.queries.start:
            return None
        pairs = torch.ones(like.shape[1:], dtype=torch.bool, device=like.device)
        return pairs.triu_(1 + tile.queries.start - tile.keys.start)


def _factors(scoring: Scoring) -> tuple[float, Coefficient | None]:
    r"""Split :math:`\alpha c` into a positive number, which costs nothing, and what is left.

    A tensor's value is looked at where that is free.
    """
    alpha, scale = scoring.alpha, scoring.scale
    if isinstance(alpha, torch.Tensor) and (alpha.numel() != 1 or not has_values(alpha)):
        return scale, alpha
    number = 1.0 if alpha is None else float(alpha)
    return (number * scale, None) if number > 0 else (scale, number)

"""Pairs of a query and a key that lie so near each other that their norms don't tell the distance."""

from __future__ import annotations

from typing import NamedTuple

import torch

NEAR = 1e-2
"""A squared distance below this part of the squared norms is taken from the difference itself.

In fp32 the rounding of the norms is at most 6e-7 of them (measured for 16 to 4096 features), so that what is
not near is right to 6e-5. That is less than for layers, since the exponential of a logit follows.
"""


class Near(NamedTuple):
    """The near pairs of a tile: where they are, their squared distances, and which lie below the floor."""

    batch: torch.Tensor
    query: torch.Tensor
    key: torch.Tensor
    distance: torch.Tensor
    floored: torch.Tensor

    @property
    def pairs(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Where they are in the tile."""
        return self.batch, self.query, self.key


def near_pairs(
    close: torch.Tensor, total: torch.Tensor, q: torch.Tensor, k: torch.Tensor, floor: float
) -> Near:
    """Find the right squared distances of near pairs, not less than their floor.

    Args:
        close: which pairs are near :math:`(n, l, s)`.
        total: sums of their squared norms, likewise.
        q: queries :math:`(n, l, d)`.
        k: keys :math:`(n, s, d)`.
        floor: least squared distance, in units of the sums.
    """
    batch, query, key = close.nonzero(as_tuple=True)
    exact = (q[batch, query] - k[batch, key]).square_().sum(-1)
    least = floor * total[batch, query, key]
    return Near(batch, query, key, torch.maximum(exact, least), exact < least)


def pull_near(
    near: Near, fall: torch.Tensor, q: torch.Tensor, k: torch.Tensor, floor: float
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Give half the gradients that near pairs send through their distance to their queries and keys.

    The distance's own are :math:`\pm 2 (q - k)`, of which a sum over products and norms would leave nothing;
    those of the floor are :math:`2 f q` and :math:`2 f k`.

    Args:
        near: the pairs.
        fall: gradients of their distances.
        q: queries :math:`(n, l, d)`.
        k: keys :math:`(n, s, d)`.
        floor: :math:`f`.
    """
    n, i, j = near.pairs
    one, other, below = q[n, i], k[n, j], near.floored[:, None]
    by_q = torch.where(below, floor * one, one - other) * fall[:, None]
    by_k = torch.where(below, floor * other, other - one) * fall[:, None]
    return by_q, by_k

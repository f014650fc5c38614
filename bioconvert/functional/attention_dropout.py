"""Which attention weights are dropped: drawn tile by tile, and drawn again the same in backward."""

from __future__ import annotations

import torch

from bioconvert.functional.attention_tiles import Tile, Tiling

_SEEDS = 2**62


class Draw:
    """Draws what the weights of each tile are multiplied by: zero, or the inverse of the share that stays.

    Args:
        probability: the share that is dropped.
        seed: what every tile's own random stream follows from.
    """

    def __init__(self, probability: float, seed: int):
        self._stays = 1 - probability
        self._seed = seed

    def of(self, tile: Tile, like: torch.Tensor) -> torch.Tensor:
        """Draw for a tile, of which ``like`` has the shape; always the same."""
        generator = torch.Generator(like.device).manual_seed(self._seed + _number(tile))
        drawn = torch.empty_like(like).bernoulli_(self._stays, generator=generator)
        return drawn.div_(self._stays) if self._stays else drawn

    def whole(self, cut: Tiling, like: torch.Tensor) -> torch.Tensor:
        """Draw for all tiles, as one tensor of the type of ``like``."""
        found = like.new_zeros(cut.batch, cut.heads, cut.queries, cut.keys)
        for band in cut.bands():
            for tile in cut.tiles(band, causal=False):
                part = tile.of_pairs(found)
                part.copy_(self.of(tile, part))
        return found


def make_draw(probability: float) -> Draw | None:
    """Seed the draws of a call from torch's own random stream; ``None`` where nothing is dropped."""
    if not probability:
        return None
    return Draw(probability, int(torch.randint(_SEEDS, ())))


def _number(tile: Tile) -> int:
    """Give each tile of a call a number of its own."""
    number = 0
    for part in tile:
        number = number * 1_000_003 + part.start
    return number

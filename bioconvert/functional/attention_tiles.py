"""Cutting the matrix of all queries and keys into tiles, so that it is never there as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

from bioconvert.functional import blocks
from bioconvert.functional.eager import has_values

_MOST_ELSEWHERE = 67_108_864
"""Elements of a tile on an accelerator, which wants few large operations."""


class Tile(NamedTuple):
    """Some queries and some keys of some heads; several batches only with all their heads."""

    batch: slice
    heads: slice
    queries: slice
    keys: slice

    def of_queries(self, x: torch.Tensor) -> torch.Tensor:
        """Give the part of :math:`(N, h, L, *)` as :math:`(n, l, *)`: a view."""
        return x[self.batch, self.heads, self.queries].flatten(0, 1)

    def of_keys(self, x: torch.Tensor) -> torch.Tensor:
        """Give the part of :math:`(N, h, S, *)` as :math:`(n, s, *)`: a view."""
        return x[self.batch, self.heads, self.keys].flatten(0, 1)

    def of_pairs(self, x: torch.Tensor) -> torch.Tensor:
        """Give the part of :math:`(N, h, L, S)` as :math:`(n, l, s)`: a view."""
        return x[self.batch, self.heads, self.queries, self.keys].flatten(0, 1)

    def shaped(self, room: torch.Tensor) -> torch.Tensor:
        """Give as much memory as :math:`(n, l, s)` takes, in that shape."""
        batch, heads, queries, keys = (part.stop - part.start for part in self)
        count = batch * heads * queries * keys
        return room[:count].view(batch * heads, queries, keys)

    def spread(self, x: torch.Tensor) -> torch.Tensor:
        """Give the part of what broadcasts with :math:`(N, h, L, S)`, in four dimensions."""
        return blocks.at(x, self)

    def unfolded(self, x: torch.Tensor) -> torch.Tensor:
        """Turn :math:`(n, l, s)` into the four dimensions that :meth:`spread` gives."""
        return x.view(-1, self.heads.stop - self.heads.start, *x.shape[1:])


class Tiling(NamedTuple):
    """Sizes of the matrix and of its tiles.

    Args:
        batch: :math:`N`.
        heads: :math:`h`.
        queries: :math:`L`.
        keys: :math:`S`.
        rows: queries of a tile.
        columns: keys of a tile.
        most: elements of a tile, if its rows and columns are fewer.
    """

    batch: int
    heads: int
    queries: int
    keys: int
    rows: int
    columns: int
    most: int

    def bands(self) -> Iterator[Tile]:
        """Give all keys' share of the queries that are treated together, one after the other."""
        heads, batches = self._heads()
        for batch in _parts(self.batch, batches):
            for part in _parts(self.heads, heads):
                for queries in _parts(self.queries, self.rows):
                    yield Tile(batch, part, queries, slice(0, self.keys))

    def tiles(self, band: Tile, *, causal: bool) -> Iterator[Tile]:
        """Cut a band; of what is causal, tiles without a visible pair are left out."""
        for keys in _parts(self.keys, self.columns):
            if not causal or keys.start < band.queries.stop:
                yield band._replace(keys=keys)

    @property
    def largest(self) -> int:
        """Elements of the largest tile."""
        heads, batches = self._heads()
        return batches * heads * self.rows * self.columns

    def _heads(self) -> tuple[int, int]:
        """Give how many heads, and how many batches of all heads, are treated together."""
        count = max(1, self.most // (self.rows * self.columns))
        if count < self.heads:
            return count, 1
        return self.heads, min(self.batch, count // self.heads)


def tiling(q: torch.Tensor, k: torch.Tensor, block_size: int | None) -> Tiling:
    """Choose the tiles: of whole rows, or of a number of rows and columns."""
    (batch, heads, queries, _), keys = q.shape, k.shape[2]
    most = blocks.BLOCK if q.device.type == "cpu" else _MOST_ELSEWHERE
    columns = keys if block_size is None else min(block_size, keys)
    rows = max(1, most // columns) if block_size is None else block_size
    return Tiling(batch, heads, queries, keys, min(rows, queries), columns, most)


def rooms(like: torch.Tensor, size: int) -> blocks.Rooms:
    """Give memory for three tiles."""
    if size <= blocks.BLOCK and has_values(like):
        return blocks.rooms(like)
    return blocks.Rooms(*(like.new_empty(size) for _ in range(3)))


def _parts(size: int, step: int) -> Iterator[slice]:
    for start in range(0, size, step):
        yield slice(start, min(start + step, size))

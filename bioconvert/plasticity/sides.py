"""The two sides of a weight: the units that its synapses come from, and those that they lead to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bioconvert.core.classes import ancestor_names
from bioconvert.core.lazy import LazyModule

if TYPE_CHECKING:
    import torch
    from torch import nn
else:
    torch = LazyModule("torch")

_CONV = "torch.nn.modules.conv._ConvNd"
_ROW_BY_INPUT = frozenset(
    (
        "torch.nn.modules.conv._ConvTransposeNd",
        "torch.nn.modules.sparse.Embedding",
        "torch.nn.modules.sparse.EmbeddingBag",
        "transformers.pytorch_utils.Conv1D",
    )
)
"""The classes whose weight has a row for each unit that its synapses come from."""


@dataclass(frozen=True, slots=True)
class Side:
    """The units on one side of a weight, each with a row of it or with a column.

    Args:
        by_row: whether the units lie along the first dimension; along the second otherwise.
        groups: number of groups of rows, each with columns, and thus units, of its own.
    """

    by_row: bool
    groups: int = 1

    def sums(self, values: torch.Tensor) -> torch.Tensor:
        """Add up the values of each unit's synapses: from a weight's shape to one value a unit."""
        by_group, others = self._by_group(values)
        return by_group.sum(others).flatten()

    def sizes(self, values: torch.Tensor) -> torch.Tensor:
        """Add up the magnitudes of the values of each unit's synapses."""
        by_group, others = self._by_group(values)
        sizes: torch.Tensor = torch.linalg.vector_norm(by_group, 1, dim=others)
        return sizes.flatten()

    def _by_group(self, values: torch.Tensor) -> tuple[torch.Tensor, tuple[int, ...]]:
        """Give values with a dimension for the groups, and the dimensions that aren't the units'."""
        by_group: torch.Tensor = values.unflatten(0, (self.groups, -1))  # type: ignore[no-untyped-call]
        return by_group, (2 if self.by_row else 1, *range(3, by_group.dim()))

    def gather(self, values: torch.Tensor, weight: torch.Tensor, place: slice) -> torch.Tensor:
        """Give one value a unit as one for each weight of a piece, in the order in which these lie in memory.

        Args:
            values: one a unit.
            weight: the weight, without gaps in memory.
            place: the piece of it, flat.
        """
        from bioconvert.plasticity.firing import by_unit

        if self.by_row or self.groups == 1:
            run = weight.stride(0 if self.by_row else 1)
            return by_unit(values, run, place.start, place.stop - place.start)
        position = torch.arange(place.start, place.stop, device=values.device)
        row = position // weight.stride(0) % weight.shape[0]
        column = position // weight.stride(1) % weight.shape[1]
        return values[row // (weight.shape[0] // self.groups) * weight.shape[1] + column]

    def spread(self, values: torch.Tensor, weight: torch.Tensor, rows: slice | None = None) -> torch.Tensor:
        """Give one value a unit in a shape that fits a weight, for element-wise operations.

        Args:
            values: one a unit.
            weight: the whole weight, of which only the shape counts.
            rows: the rows of it that are wanted; all where there is nothing else.
        """
        ones = [1] * (weight.dim() - 2)
        spread: torch.Tensor
        if self.by_row:
            spread = values.view(-1, 1, *ones)
        elif self.groups == 1:
            return values.view(1, -1, *ones)
        else:
            by_group = values.view(self.groups, -1)
            spread = by_group.repeat_interleave(weight.shape[0] // self.groups, 0)
            spread = spread.view(*spread.shape, *ones)
        return spread if rows is None else spread[rows]


def sending_side(module: nn.Module) -> Side:
    """Give the side that a module's synapses come from; of an unknown class, the columns."""
    by_row = not _ROW_BY_INPUT.isdisjoint(ancestor_names(type(module)))
    return Side(by_row, 1 if by_row else _groups(module))


def receiving_side(module: nn.Module) -> Side:
    """Give the side that a module's synapses lead to; of an unknown class, the rows."""
    by_row = _ROW_BY_INPUT.isdisjoint(ancestor_names(type(module)))
    return Side(by_row, 1 if by_row else _groups(module))


def _groups(module: nn.Module) -> int:
    is_conv = _CONV in ancestor_names(type(module))
    return int(module.groups) if is_conv else 1  # type: ignore[arg-type]

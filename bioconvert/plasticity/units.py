"""The units of a layer, with the weights that lead into them and out of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True, slots=True)
class Strand:
    """The elements of one parameter that belong to units.

    Args:
        parameter: the parameter.
        by_unit: gives a tensor of its shape as [groups, units of a group, …], in the same memory.
        outgoing: whether the elements lead out of the units.
    """

    parameter: nn.Parameter
    by_unit: Callable[[torch.Tensor], torch.Tensor]
    outgoing: bool = False

    def of(self, tensor: torch.Tensor, units: torch.Tensor) -> torch.Tensor:
        """Give the elements of some units, [number of units, …]."""
        view = self.by_unit(tensor)
        return view[units // view.shape[1], units % view.shape[1]]

    def put(self, tensor: torch.Tensor, units: torch.Tensor, values: torch.Tensor | float) -> None:
        """Set the elements of some units."""
        view = self.by_unit(tensor)
        given = torch.as_tensor(values, dtype=tensor.dtype, device=tensor.device)
        view[units // view.shape[1], units % view.shape[1]] = given


@dataclass(frozen=True, eq=False)
class Units:
    """The units of one layer.

    Args:
        layer: the layer, a Linear or a convolution.
        receiver: the layer that takes their output.
        norm: the normalisation in between.
    """

    layer: nn.Module
    receiver: nn.Module
    norm: nn.Module | None = None

    @property
    def count(self) -> int:
        """Their number."""
        return int(_weight(self.layer).shape[0])

    @property
    def islands(self) -> int:
        """The number of groups of a grouped convolution: as many layers side by side.

        A group of a single unit is none: there would be nothing to compare the unit with.
        """
        groups = int(getattr(self.layer, "groups", 1))
        return groups if self.count > groups else 1

    def activity(self, inputs: torch.Tensor) -> torch.Tensor:
        """Give what the receiver takes in as [samples, units, places]."""
        if isinstance(self.receiver, nn.Linear):
            return _split(inputs.flatten(0, -2), 1, self.count)
        places = _weight(self.receiver).dim() - 2
        batched = inputs if inputs.dim() > places + 1 else inputs[None]
        return batched.flatten(2)

    def strands(self) -> Iterator[Strand]:
        """Give all elements that belong to units: those that lead in, and last those that lead out."""
        for module in (self.layer, self.norm):
            for parameter in _of_units(module, self.count):
                yield Strand(parameter, _rows)
        yield self.outgoing

    @property
    def outgoing(self) -> Strand:
        """The weights that lead out of the units."""
        return Strand(_weight(self.receiver), self._columns, outgoing=True)

    def size_in(self) -> torch.Tensor:
        """Give the mean magnitude of each unit's incoming weights."""
        return _weight(self.layer).detach().flatten(1).abs().mean(1, dtype=torch.float32)

    def size_out(self) -> torch.Tensor:
        """Give the sum of the magnitudes of each unit's outgoing weights."""
        view = self._columns(_weight(self.receiver).detach())
        return view.abs().sum(tuple(range(2, view.dim())), dtype=torch.float32).flatten()

    def _columns(self, tensor: torch.Tensor) -> torch.Tensor:
        if isinstance(self.receiver, nn.Linear):
            return _split(tensor, 1, self.count).transpose(0, 1)[None]
        groups: int = self.receiver.groups  # type: ignore[assignment]
        return _split(tensor, 0, groups).transpose(1, 2)


def _split(tensor: torch.Tensor, dim: int, count: int) -> torch.Tensor:
    """Make two dimensions of one, the first of a given size."""
    split: torch.Tensor = tensor.unflatten(dim, (count, -1))  # type: ignore[no-untyped-call]
    return split


def _rows(tensor: torch.Tensor) -> torch.Tensor:
    return tensor[None]


def _weight(layer: nn.Module) -> nn.Parameter:
    found = layer._parameters["weight"]
    assert found is not None
    return found


def _of_units(module: nn.Module | None, count: int) -> Iterator[nn.Parameter]:
    for name in ("weight", "bias"):
        parameter = module._parameters.get(name) if module is not None else None
        if parameter is not None and parameter.shape[:1] == (count,):
            yield parameter

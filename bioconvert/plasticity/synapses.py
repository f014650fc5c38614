"""The weights that mechanisms work on: parameters, who owns them, and what is kept of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from bioconvert.core.random import Stream
from bioconvert.plasticity.layout import laid_like
from bioconvert.plasticity.mechanism import OPTIONS, Mechanism, buffer_name, mechanism_named
from bioconvert.plasticity.shards import Extent, distribute_like, extent_of, is_distributed, local, total


@dataclass(eq=False)
class Synapses:
    """One parameter with the mechanisms that are attached to it.

    A parameter that several modules hold is the first one's, so that it has one rate, importance and sign.
    Where each process holds some rows only (FSDP2), :attr:`weight` and :meth:`tensor` are those rows;
    :meth:`total` adds up over the processes.

    Args:
        module: the module that owns it.
        parameter: its name there.
        path: its dotted name in the model.
        mechanisms: what is attached to it, in the order in which it was.
        seed: decides, with the path, every random number.
        index: its place among the model's parameters that mechanisms are attached to.
        count: their number.
        model: the model that they are in.
        found: what mechanisms found out about its surroundings when they were bound, by name.
    """

    module: nn.Module
    parameter: str
    path: str
    mechanisms: tuple[Mechanism, ...]
    seed: int = 0
    index: int = 0
    count: int = 1
    model: nn.Module | None = None
    found: dict[str, Any] = field(default_factory=dict)

    @property
    def held(self) -> nn.Parameter:
        """The parameter as the module holds it now: loading and sharding put others in its place."""
        found = self.module._parameters[self.parameter]
        assert found is not None
        return found

    @property
    def weight(self) -> torch.Tensor:
        """The parameter as it is now, or the rows of it that this process holds."""
        return local(self.held)

    @property
    def extent(self) -> Extent:
        """What this process holds of the parameter."""
        return extent_of(self.held, self.path)

    @property
    def rows(self) -> slice:
        """The rows that this process holds."""
        return self.extent.rows

    @property
    def stream(self) -> Stream:
        """Its random numbers."""
        return Stream(self.seed, self.path)

    def tensor(self, mechanism: Mechanism, key: str) -> torch.Tensor:
        """Give what a mechanism keeps of it, element for element where it has the parameter's shape."""
        name = buffer_name(mechanism.name, self.parameter, key)
        kept, held = self.module._buffers[name], self.held
        assert kept is not None
        if kept.shape == held.shape:
            settled = self._settled(kept, held)
            if settled is not kept:
                self.module._buffers[name] = settled
            kept = settled
        return local(kept)

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Add up what each process found on its rows; every process has to ask."""
        return total(values, self.held, self.path)

    def mean(self, values: torch.Tensor) -> float:
        """Give the mean over all weights, of those that this process holds and the others."""
        return float(self.total(values.sum(dtype=torch.float64)) / max(self.extent.total, 1))

    def _settled(self, kept: torch.Tensor, held: nn.Parameter) -> torch.Tensor:
        """Let the elements of a buffer lie where those of the parameter do."""
        if is_distributed(kept):
            return kept
        if is_distributed(held):
            return distribute_like(kept, held, self.rows)
        return laid_like(kept, held.detach())


def synapses_in(model: nn.Module, seed: int) -> list[Synapses]:
    """Find all parameters that mechanisms are attached to."""
    found: dict[int, Synapses] = {}
    for path, module in model.named_modules():
        for parameter, mechanism in _attached_to(module):
            held = module._parameters.get(parameter)
            if held is None:
                continue
            own = found.get(id(held))
            if own is None:
                found[id(held)] = Synapses(module, parameter, _name(path, parameter), (mechanism,), seed)
            elif all(mechanism.name != other.name for other in own.mechanisms):
                own.mechanisms = (*own.mechanisms, mechanism)
    for index, synapses in enumerate(found.values()):
        synapses.index, synapses.count, synapses.model = index, len(found), model
    return list(found.values())


_WRAPPED = ("_orig_mod", "_checkpoint_wrapped_module")
"""What compiling and checkpointing put into the names of what they wrap; random numbers go by the names."""


def _name(path: str, parameter: str) -> str:
    return ".".join(each for each in (*path.split("."), parameter) if each and each not in _WRAPPED)


def _attached_to(module: nn.Module) -> Iterator[tuple[str, Mechanism]]:
    prefix = f"{OPTIONS}_"
    for attribute, options in list(vars(module).items()):
        if attribute.startswith(prefix):
            name, _, parameter = attribute.removeprefix(prefix).partition("__")
            yield parameter, mechanism_named(name, options)

"""The weights that mechanisms work on: parameters, who owns them, and what is kept of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from bioconvert.core.random import Stream
from bioconvert.plasticity.mechanism import OPTIONS, Mechanism, buffer_name, mechanism_named


@dataclass(eq=False)
class Synapses:
    """One parameter with the mechanisms that are attached to it.

    A parameter that several modules hold is the first one's, so that it has one rate, importance and sign.

    Args:
        module: the module that owns it.
        parameter: its name there.
        path: its dotted name in the model.
        mechanisms: what is attached to it, in the order in which it was.
        seed: decides, with the path, every random number.
    """

    module: nn.Module
    parameter: str
    path: str
    mechanisms: tuple[Mechanism, ...]
    seed: int = 0

    @property
    def weight(self) -> nn.Parameter:
        """The parameter as it is now: loading and sharding put others in its place."""
        found = self.module._parameters[self.parameter]
        assert found is not None
        return found

    @property
    def stream(self) -> Stream:
        """Its random numbers."""
        return Stream(self.seed, self.path)

    def tensor(self, mechanism: Mechanism, key: str) -> torch.Tensor:
        """Give what a mechanism keeps of it."""
        found = self.module._buffers[buffer_name(mechanism.name, self.parameter, key)]
        assert found is not None
        return found


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
                name = f"{path}.{parameter}" if path else parameter
                found[id(held)] = Synapses(module, parameter, name, (mechanism,), seed)
            elif all(mechanism.name != other.name for other in own.mechanisms):
                own.mechanisms = (*own.mechanisms, mechanism)
    return list(found.values())


def _attached_to(module: nn.Module) -> Iterator[tuple[str, Mechanism]]:
    prefix = f"{OPTIONS}_"
    for attribute, options in list(vars(module).items()):
        if attribute.startswith(prefix):
            name, _, parameter = attribute.removeprefix(prefix).partition("__")
            yield parameter, mechanism_named(name, options)

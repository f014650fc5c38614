"""Mechanisms that do one plain thing each; in the registry only while a test wants them."""

from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch

from bioconvert.core import registry
from bioconvert.plasticity.layout import flat
from bioconvert.plasticity.mechanism import Mechanism, plastic, weight_like
from bioconvert.plasticity.part import parts
from bioconvert.plasticity.watching import on_forward


@plastic("plain_slow")
@dataclass(frozen=True, kw_only=True)
class Slow(Mechanism):
    """Slows every second weight down."""

    factor: float = 0.1

    scales: ClassVar[bool] = True

    def tensors(self, parameter):
        """Keep the factors."""

        def make(weight, stream):
            factors = torch.ones(weight.numel())
            factors[::2] = self.factor
            return factors.view(weight.shape)

        return {"rate": weight_like(parameter, make)}

    def scale(self, part):
        """Multiply by the factors."""
        part.multiply(part.kept(self, "rate"), self)

    def report(self, synapses):
        """Give the mean factor."""
        kept = synapses.tensor(self, "rate")
        return {"mean rate": synapses.total(kept.double().sum()) / synapses.extent.total}


@plastic("plain_still")
@dataclass(frozen=True, kw_only=True)
class Still(Mechanism):
    """Multiplies by 1."""

    scales: ClassVar[bool] = True

    def scale(self, part):
        """Multiply by ones."""
        part.multiply(torch.ones_like(part.weight), self)


@plastic("plain_noise")
@dataclass(frozen=True, kw_only=True)
class Noise(Mechanism):
    """Multiplies by a random factor at each step, and keeps the last one."""

    scales: ClassVar[bool] = True

    def tensors(self, parameter):
        """Keep the factor."""
        return {"last": weight_like(parameter, lambda weight, stream: torch.ones(weight.shape))}

    def scale(self, part):
        """Draw and multiply."""
        factor = 1 + 0.1 * part.normal(self)
        part.kept(self, "last").copy_(factor)
        part.multiply(factor, self)


@plastic("plain_prune")
@dataclass(frozen=True, kw_only=True)
class Prune(Mechanism):
    """Sets random weights below the mean size to 0, and keeps which."""

    compares: ClassVar[bool] = True

    def tensors(self, parameter):
        """Keep the mask."""
        return {
            "mask": weight_like(
                parameter, lambda weight, stream: torch.zeros(weight.shape, dtype=torch.uint8)
            )
        }

    def prepare(self, synapses, moment):
        """Find the mean size, over all processes."""
        size = synapses.weight.detach().abs().sum(dtype=torch.float64)
        moment.notes[self.name] = float(synapses.total(size) / synapses.extent.total)

    def change(self, synapses, moment):
        """Set to 0."""
        after = flat(synapses.weight)
        for part in parts(synapses, moment):
            chosen = (part.normal(self) > 1.5) & (part.weight.abs() < moment.notes[self.name])
            part.kept(self, "mask").copy_(chosen)
            after[part.place].masked_fill_(chosen, 0)


@plastic("plain_look")
@dataclass(frozen=True, kw_only=True)
class Look(Mechanism):
    """Keeps the sum of the gradients that it is shown and counts the steps."""

    def tensors(self, parameter):
        """Keep sum and count."""
        return {
            "sum": weight_like(parameter, lambda weight, stream: torch.zeros(weight.shape)),
            "count": weight_like(parameter, lambda weight, stream: torch.zeros(1)),
        }

    def prepare(self, synapses, moment):
        """Add."""
        synapses.tensor(self, "sum").add_(moment.gradient)
        synapses.tensor(self, "count").add_(1)


@plastic("plain_watch")
@dataclass(frozen=True, kw_only=True)
class Watch(Mechanism):
    """Counts forwards of its layer."""

    def tensors(self, parameter):
        """Keep the number."""
        return {"seen": weight_like(parameter, lambda weight, stream: torch.zeros(1))}

    def watch(self, synapses):
        """Count."""

        def see(inputs, output):
            synapses.tensor(self, "seen").add_(1)

        return (on_forward(synapses.module, see),)


NAMES = ("plain_slow", "plain_still", "plain_noise", "plain_prune", "plain_look", "plain_watch")
_ENTRIES = {name: registry.mechanisms._entries.pop(name) for name in NAMES}


@contextmanager
def registered():
    """Let rules name the mechanisms for a while."""
    registry.mechanisms._entries.update(_ENTRIES)
    try:
        yield
    finally:
        for name in NAMES:
            registry.mechanisms._entries.pop(name)


def attach(*mechanisms, to=("linear", "conv")):
    """Give a rule set that attaches mechanisms."""
    return {"version": 1, "rules": [{"match": {"type": list(to)}, "attach": list(mechanisms)}]}

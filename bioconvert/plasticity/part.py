"""A piece of a parameter that fits the processor's cache, with the factor that its update is multiplied by."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from bioconvert.core.random import CHUNK
from bioconvert.plasticity.mechanism import Mechanism
from bioconvert.plasticity.moment import Moment
from bioconvert.plasticity.synapses import Synapses


class Part:
    """A piece of a parameter, flat, at one step.

    Args:
        synapses: the parameter.
        moment: the step.
        start: the piece's first element in the parameter.
        weight: the weights before the step.
        gradient: their gradient.
    """

    def __init__(
        self, synapses: Synapses, moment: Moment, start: int, weight: torch.Tensor, gradient: torch.Tensor
    ):
        self.synapses = synapses
        self.moment = moment
        self.start = start
        self.weight = weight
        self.gradient = gradient
        self.factor: torch.Tensor | None = None

    def kept(self, mechanism: Mechanism, key: str) -> torch.Tensor:
        """Give this piece of what a mechanism keeps of the parameter; what is written to it stays."""
        whole = self.synapses.tensor(mechanism, key)
        return flat(whole)[self.start : self.start + self.weight.numel()]

    def normal(self, mechanism: Mechanism, purpose: str = "normal") -> torch.Tensor:
        """Draw a standard normal number for each weight, a function of seed, name, step and position."""
        drawn = self.synapses.stream.chunk(
            f"{mechanism.name} {purpose}", self.start // CHUNK, self.weight.numel(), step=self.moment.step
        )
        return drawn.to(self.weight)

    def multiply(self, factor: torch.Tensor, strength: float = 1.0) -> None:
        """Multiply the factor of the update; at less than full strength, by ``1 + strength · (factor - 1)``."""
        if strength < 1:
            factor = torch.lerp(torch.ones_like(factor), factor, strength)
        self.factor = factor if self.factor is None else self.factor * factor


def parts(synapses: Synapses, moment: Moment) -> Iterator[Part]:
    """Cut a parameter into pieces of as many elements as one generator draws."""
    weight, gradient = flat(moment.before), flat(moment.gradient)
    for start in range(0, weight.numel(), CHUNK):
        piece = slice(start, start + CHUNK)
        yield Part(synapses, moment, start, weight[piece], gradient[piece])


def flat(tensor: torch.Tensor) -> torch.Tensor:
    """Give a tensor as one row, without a copy wherever its memory lies in one piece."""
    return tensor.detach().view(-1)

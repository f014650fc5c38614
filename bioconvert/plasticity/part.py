"""A piece of a parameter that fits the processor's cache, with the factor of its update."""

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

    @property
    def place(self) -> slice:
        """Where the piece lies in the flat parameter."""
        return slice(self.start, self.start + self.weight.numel())

    def kept(self, mechanism: Mechanism, key: str) -> torch.Tensor:
        """Give this piece of what a mechanism keeps of each weight; what is written to it stays."""
        return flat(self.synapses.tensor(mechanism, key))[self.place]

    def normal(self, mechanism: Mechanism, purpose: str = "normal") -> torch.Tensor:
        """Draw a standard normal number for each weight: a function of seed, name, step and position."""
        drawn = self.synapses.stream.chunk(
            f"{mechanism.name} {purpose}", self.start // CHUNK, self.weight.numel(), step=self.moment.step
        )
        return drawn.to(self.weight)

    def multiply(self, factor: torch.Tensor, mechanism: Mechanism) -> None:
        """Multiply the factor of the update; while the mechanism warms up, by a value nearer to 1.

        Args:
            factor: it is not written to.
            mechanism: whose factor it is.
        """
        strength = mechanism.strength(self.moment.step)
        if strength < 1:
            factor = torch.lerp(torch.ones_like(factor), factor, strength)
        self.factor = factor if self.factor is None else self.factor * factor


def parts(synapses: Synapses, moment: Moment) -> Iterator[Part]:
    """Cut a parameter into pieces of as many elements as one generator draws."""
    assert moment.before is not None
    assert moment.gradient is not None
    weight, gradient = flat(moment.before), flat(moment.gradient)
    for start in range(0, weight.numel(), CHUNK):
        piece = slice(start, start + CHUNK)
        yield Part(synapses, moment, start, weight[piece], gradient[piece])


def flat(tensor: torch.Tensor) -> torch.Tensor:
    """Give a tensor as one row that shares its memory, in the order in which the elements lie there."""
    tensor = tensor.detach()
    if tensor.is_contiguous():
        return tensor.view(-1)
    order = sorted(range(tensor.dim()), key=tensor.stride, reverse=True)
    return tensor.permute(order).view(-1)

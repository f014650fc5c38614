"""A piece of a parameter that fits the processor's cache, with the factor of its update."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from bioconvert.core.random import CHUNK
from bioconvert.plasticity.layout import flat as flat
from bioconvert.plasticity.layout import laid_like
from bioconvert.plasticity.mechanism import Mechanism
from bioconvert.plasticity.moment import Moment
from bioconvert.plasticity.synapses import Synapses


class Part:
    """A piece of a parameter, flat, at one step.

    Args:
        synapses: the parameter.
        moment: the step.
        place: where the piece lies in what this process holds of the parameter, flat.
        start: the piece's first element in the whole parameter.
        weight: the weights before the step.
        gradient: their gradient.
    """

    def __init__(
        self,
        synapses: Synapses,
        moment: Moment,
        place: slice,
        start: int,
        weight: torch.Tensor,
        gradient: torch.Tensor,
    ):
        self.synapses = synapses
        self.moment = moment
        self.place = place
        self.start = start
        self.weight = weight
        self.gradient = gradient
        self.factor: torch.Tensor | None = None

    def kept(self, mechanism: Mechanism, key: str) -> torch.Tensor:
        """Give this piece of what a mechanism keeps of each weight; what is written to it stays."""
        return flat(self.synapses.tensor(mechanism, key))[self.place]

    def normal(self, mechanism: Mechanism, purpose: str = "normal") -> torch.Tensor:
        """Draw a standard normal number for each weight: a function of seed, name, step and position."""
        index, first = divmod(self.start, CHUNK)
        # How the first numbers of a generator come out depends on how many are asked for.
        count = min(CHUNK, self.synapses.extent.total - index * CHUNK)
        purpose = f"{mechanism.name} {purpose}"
        drawn = self.synapses.stream.chunk(purpose, index, count, step=self.moment.step)
        return drawn[first : first + self.weight.numel()].to(self.weight)

    def multiply(self, factor: torch.Tensor, mechanism: Mechanism) -> None:
        """Multiply the factor of the update; while the mechanism warms up, by a value nearer to 1.

        Args:
            factor: it is not written to.
            mechanism: whose factor it is.
        """
        ramp = mechanism.strength_at(self.moment.step)
        if ramp < 1:
            factor = torch.lerp(torch.ones_like(factor), factor, ramp)
        self.factor = factor if self.factor is None else self.factor * factor


def parts(synapses: Synapses, moment: Moment) -> Iterator[Part]:
    """Cut what this process holds of a parameter into pieces, each within what one generator draws."""
    assert moment.before is not None
    assert moment.gradient is not None
    weight, gradient = flat(moment.before), flat(laid_like(moment.gradient, moment.before))
    offset, done = synapses.extent.start, 0
    while done < weight.numel():
        start = offset + done
        place = slice(done, min(done + CHUNK - start % CHUNK, weight.numel()))
        yield Part(synapses, moment, place, start, weight[place], gradient[place])
        done = place.stop

"""A piece of a parameter that fits the processor's cache, with the factor of its update."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import torch

from bioconvert.core.random import CHUNK
from bioconvert.plasticity.layout import flat as flat
from bioconvert.plasticity.layout import full_type, in_full, laid_like
from bioconvert.plasticity.mechanism import Mechanism
from bioconvert.plasticity.moment import Moment
from bioconvert.plasticity.synapses import Synapses

PIECE = 4 * CHUNK
"""Elements that are worked on at once: few enough to stay in the cache, and many enough to be worth a turn of
Python and, in each, random numbers for several processors (measured)."""

Flat = dict[tuple[str, str], torch.Tensor]
"""What mechanisms keep of a parameter, as rows: by mechanism and key."""


class Part:
    """A piece of a parameter, flat, at one step.

    Args:
        synapses: the parameter.
        moment: the step.
        place: where the piece lies in what this process holds of the parameter, flat.
        start: the piece's first element in the whole parameter.
        weight: the weights before the step.
        gradient: their gradient.
        rows: what mechanisms keep of the parameter, as far as it was asked for before.
    """

    def __init__(
        self,
        synapses: Synapses,
        moment: Moment,
        place: slice,
        start: int,
        weight: torch.Tensor,
        gradient: torch.Tensor,
        rows: Flat | None = None,
    ):
        self.synapses = synapses
        self.moment = moment
        self.place = place
        self.start = start
        self.weight = weight
        self.gradient = gradient
        self._factors: list[torch.Tensor] = []
        self._rows = {} if rows is None else rows
        self._rooms = 0

    def kept(self, mechanism: Mechanism, key: str) -> torch.Tensor:
        """Give this piece of what a mechanism keeps of each weight; what is written to it stays."""
        name = (mechanism.name, key)
        if name not in self._rows:
            self._rows[name] = flat(self.synapses.tensor(mechanism, key))
        return self._rows[name][self.place]

    def room(self) -> torch.Tensor:
        """Give room for as many numbers as there are weights, until the next piece: fp32, or the wider type.

        It is kept from piece to piece: to get fresh memory takes longer than the arithmetic in it (measured).
        """
        dtype = full_type(self.weight.dtype)
        rooms = _kept.rooms.setdefault((self.weight.device, dtype), [])
        if self._rooms == len(rooms):
            with torch.inference_mode(False):
                rooms.append(torch.empty(PIECE, dtype=dtype, device=self.weight.device))
        self._rooms += 1
        return rooms[self._rooms - 1][: self.weight.numel()]

    def normal(
        self, mechanism: Mechanism, purpose: str = "normal", *, mean: float = 0.0, deviation: float = 1.0
    ) -> torch.Tensor:
        """Draw a normal number for each weight, a function of seed, name, step and position; in a room."""
        room = self.room()
        self.synapses.stream.fill_normal(
            room,
            f"{mechanism.name} {purpose}",
            step=self.moment.step,
            start=self.start,
            total=self.synapses.extent.total,
            mean=mean,
            deviation=deviation,
        )
        return room

    def multiply(self, factor: torch.Tensor, mechanism: Mechanism) -> None:
        """Multiply the factor of the update; while the mechanism warms up, by a value nearer to 1.

        Args:
            factor: it is not written to; what lies in a room stays there until the next piece.
            mechanism: whose factor it is.
        """
        ramp = mechanism.strength_at(self.moment.step)
        self._factors.append(factor if ramp == 1 else torch.lerp(torch.ones_like(factor), factor, ramp))

    @property
    def factor(self) -> torch.Tensor | None:
        """What mechanisms multiply the update by together; ``None`` where none does."""
        if len(self._factors) < 2:
            return self._factors[0] if self._factors else None
        first, second, *others = self._factors
        product = torch.mul(first, second, out=self.room())
        for factor in others:
            product.mul_(factor)
        return product

    def scale(self, gradient: torch.Tensor) -> None:
        """Multiply this piece of a gradient."""
        if in_full(gradient) is gradient:
            # One by one in place: the product would go to memory and back.
            for factor in self._factors:
                gradient.mul_(factor)
        elif (product := self.factor) is not None:
            gradient.mul_(product)


def mean_size(synapses: Synapses, moment: Moment) -> float:
    """Give the mean of the weights' absolute values, over all processes; not finite if one isn't."""
    total = torch.zeros((), dtype=torch.float64, device=synapses.weight.device)
    for part in parts(synapses, moment):
        # In two passes through a room: torch's own 1-norm takes twice as long (measured).
        total += torch.abs(in_full(part.weight), out=part.room()).sum()
    return float(synapses.total(total) / max(synapses.extent.total, 1))


class _Kept(threading.local):
    def __init__(self) -> None:
        self.rooms: dict[tuple[torch.device, torch.dtype], list[torch.Tensor]] = {}


_kept = _Kept()


def parts(synapses: Synapses, moment: Moment) -> Iterator[Part]:
    """Cut what this process holds of a parameter into pieces, which begin where generators do."""
    assert moment.before is not None
    assert moment.gradient is not None
    weight, gradient = flat(moment.before), flat(laid_like(moment.gradient, moment.before))
    offset, done, rows = synapses.extent.start, 0, Flat()
    while done < weight.numel():
        start = offset + done
        place = slice(done, min(done + PIECE - start % PIECE, weight.numel()))
        yield Part(synapses, moment, place, start, weight[place], gradient[place], rows)
        done = place.stop

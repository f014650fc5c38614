"""Learning rates that fall with a synapse's size, and vary from step to step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field

from bioconvert.core.errors import OptionError
from bioconvert.core.lazy import LazyModule
from bioconvert.plasticity.mechanism import Mechanism, plastic

if TYPE_CHECKING:
    import torch

    from bioconvert.plasticity import layout
    from bioconvert.plasticity.moment import Moment
    from bioconvert.plasticity.part import Part
    from bioconvert.plasticity.synapses import Synapses
else:
    torch = LazyModule("torch")
    layout = LazyModule("bioconvert.plasticity.layout")

SAMPLE = 32_768
"""The law's mean is taken over so many weights of each piece: all of a small weight, 1/8 of a large one."""


class Scale(NamedTuple):
    """What a law takes of the whole weight at a step.

    Args:
        size: the size that weights are measured in.
        gain: what the law is multiplied by.
    """

    size: float
    gain: float


@plastic("volume_lr")
@dataclass(frozen=True, kw_only=True)
class VolumeRates(Mechanism):
    r"""Multiplies each weight's update by :math:`|\mu\,(1 + \sigma z)|` with a new :math:`z \sim N(0, 1)`.

    The law says how the rate depends on the size :math:`r = |w| / \overline{|w|}`, relative to the mean of
    the weight:

    - ``normalised``: :math:`\mu \propto e^{-\kappa r / (r + 1)}`;
    - ``kasai``: :math:`\mu \propto e^{-\kappa r}`: large synapses are stable;
    - ``multiplicative``: :math:`\mu \propto r`: an exponentiated gradient, where a weight of 0 stays so;

    each scaled so that its mean over the weights is 1: the learning rate means what it meant; and

    - ``reference``: :math:`\mu = \beta\, e^{-\kappa v}` with :math:`v = |w| / (|w| + 1)`, which also lowers
      the learning rate, to :math:`\beta` or less.

    Args:
        law: which of these it is.
        base: :math:`\beta`, the rate of a weight of 0 by the reference's law; the others don't use it.
        stability: :math:`\kappa`, how fast the rate falls with the size; not used by ``multiplicative``.
        variability: :math:`\sigma`, the deviation of a rate in units of its mean.

    Raises:
        OptionError: at a step, where a weight isn't finite, so that sizes can't be measured in its mean.

    Reference:
        Kasai et al., *Structure–stability–function relationships of dendritic spines*, Trends in
        Neurosciences 26 (2003).
    """

    law: Literal["normalised", "reference", "kasai", "multiplicative"] = "normalised"
    base: Annotated[float, Field(gt=0)] = 0.1
    stability: Annotated[float, Field(ge=0, le=50)] = 2.0
    variability: Annotated[float, Field(ge=0)] = 0.2

    scales: ClassVar[bool] = True

    def prepare(self, synapses: Synapses, moment: Moment) -> None:
        """Measure the mean size of the weights, and what the law is on average."""
        measured = self._of_reference() if self.law == "reference" else self._measured(synapses, moment)
        moment.notes[self.name] = measured

    def scale(self, part: Part) -> None:
        """Multiply the update by the rates."""
        size, gain = part.moment.notes[self.name]
        rate = self._shape(part.weight, size, part.room())
        if self.variability:
            drawn = part.normal(self, mean=gain, deviation=gain * self.variability)
            rate.mul_(drawn).abs_()
        else:
            rate.mul_(gain)
        part.multiply(rate, self)

    def _of_reference(self) -> Scale:
        return Scale(1.0, self.base * math.exp(-self.stability))

    def _measured(self, synapses: Synapses, moment: Moment) -> Scale:
        """Give the scale by which the law's mean is 1."""
        from bioconvert.plasticity.part import PIECE, mean_size, parts

        size = mean_size(synapses, moment)
        if not math.isfinite(size):
            raise OptionError(f"{synapses.path!r} isn't finite: volume_lr measures sizes in its mean")
        # Where all weights are 0, any unit will do.
        size = size or 1.0
        if self.law == "multiplicative":
            return Scale(size, 1 / (size * _folded_mean(self.variability)))
        pieces = [(part.weight, part.start % PIECE) for part in parts(synapses, moment)]
        sample = [piece[: SAMPLE - first] for piece, first in pieces if first < SAMPLE]
        mean = _mean(synapses, [(self._shape(piece, size).sum(), len(piece)) for piece in sample])
        return Scale(size, 1 / (mean * _folded_mean(self.variability)))

    def _shape(self, weight: torch.Tensor, size: float, room: torch.Tensor | None = None) -> torch.Tensor:
        """Give the law up to a factor, in a room or in memory of its own."""
        room = torch.empty_like(weight, dtype=torch.float32) if room is None else room
        absolute = layout.size_in(room, weight)
        if self.law == "multiplicative":
            return absolute
        if self.law == "kasai":
            return absolute.mul_(-self.stability / size).exp_()
        steepness = absolute.new_full((), self.stability * size)
        # -r / (r + 1) = 1 / (r + 1) - 1, of which the constant goes into the gain.
        return torch.div(steepness, absolute.add_(size), out=absolute).exp_()


def _mean(synapses: Synapses, sums: Sequence[tuple[torch.Tensor, int]]) -> float:
    """Give the mean over what all processes hold, from the sum and the number of each piece."""
    summed = [added.double() for added, _ in sums]
    count = sum(number for _, number in sums)
    like = synapses.weight.new_zeros((), dtype=torch.float64)
    both = torch.stack([torch.stack([*summed, like]).sum(), like + count])
    added, number = synapses.total(both)
    return float(added / number.clamp_min(1))


def _folded_mean(deviation: float) -> float:
    r"""Give the mean of :math:`|1 + \sigma z|`."""
    if not deviation:
        return 1.0
    tail = math.sqrt(2 / math.pi) * deviation * math.exp(-1 / (2 * deviation**2))
    return tail + math.erf(1 / (deviation * math.sqrt(2)))

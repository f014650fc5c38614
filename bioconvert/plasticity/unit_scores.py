r"""How much use the units of a layer are, watched while the model is trained.

Averages forget by :math:`\eta = 0.99` with each forward pass and are divided by :math:`1 - \eta^a` after
:math:`a` passes, so that they are right from the first on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch

from bioconvert.plasticity.mechanism import Mechanism
from bioconvert.plasticity.synapses import Synapses
from bioconvert.plasticity.units import Units

MEMORY = 0.99
"""The share of an average that one forward pass leaves."""
_TINY = 1e-12
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class UnitWatch(ABC):
    """Looks at what a layer's units give to the next layer.

    Args:
        mechanism: for which the averages are kept.
        synapses: the layer's weight.
        units: its units.
    """

    mechanism: Mechanism
    synapses: Synapses
    units: Units

    @torch.no_grad()
    def __call__(self, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        """Take note of one forward pass, while training."""
        if not (self.units.receiver.training and output.requires_grad) or not inputs:
            return
        activity = self.units.activity(inputs[0].detach()).float()
        self._kept("seen").add_(1)
        self._note(activity)

    @abstractmethod
    def score(self) -> torch.Tensor:
        """Give each unit's score, the same in all processes."""

    @abstractmethod
    def mean(self) -> torch.Tensor:
        """Give the mean of each unit's output, as the score measures it."""

    @abstractmethod
    def _note(self, activity: torch.Tensor) -> None:
        """Bring the averages up to date; activity is [samples, units, places]."""

    def _kept(self, key: str) -> torch.Tensor:
        return self.synapses.tensor(self.mechanism, key)

    def _average(self, key: str) -> torch.Tensor:
        total = 1 - MEMORY ** self._kept("seen").clamp_min(1).double()
        return (self._kept(key) / total).float()

    def _by_island(self, values: torch.Tensor) -> torch.Tensor:
        return values.view(self.units.islands, -1)


class DormancyWatch(UnitWatch):
    r"""Scores a unit by :math:`E|h_i|` over the layer's mean of it: 0 for a dead one.

    Reference:
        Sokar et al., *The Dormant Neuron Phenomenon in Deep Reinforcement Learning*,
        https://arxiv.org/abs/2302.12902
    """

    def _note(self, activity: torch.Tensor) -> None:
        self._kept("activity").lerp_(activity.abs().mean((0, 2)), 1 - MEMORY)

    def mean(self) -> torch.Tensor:
        """Give each unit's mean magnitude."""
        return self._average("activity")

    def score(self) -> torch.Tensor:
        """Give activities relative to their mean."""
        activity = self._by_island(shared(self.mean()))
        return (activity / activity.mean(1, keepdim=True).clamp_min(_TINY)).flatten()


class UtilityWatch(UnitWatch):
    r"""Scores a unit by the average of :math:`|h_i - \bar h_i| \sum|w^{out}_i| / \overline{|w^{in}_i|}`.

    Reference:
        Dohare et al., *Loss of plasticity in deep continual learning*, Nature 632 (2024).
    """

    def _note(self, activity: torch.Tensor) -> None:
        self._kept("mean").lerp_(activity.mean((0, 2)), 1 - MEMORY)
        mean = self.mean()
        off = (activity - mean[:, None]).abs_().mean((0, 2))
        # What rounding makes of a constant output is no variation, however small the incoming weights are.
        off = (off - _ROUNDING * mean.abs()).clamp_min_(0)
        utility = off * self.units.size_out() / self.units.size_in().clamp_min(_TINY)
        self._kept("utility").lerp_(utility, 1 - MEMORY)

    def mean(self) -> torch.Tensor:
        """Give each unit's mean output."""
        return self._average("mean")

    def score(self) -> torch.Tensor:
        """Give the utilities."""
        return shared(self._average("utility"))


def shared(values: torch.Tensor) -> torch.Tensor:
    """Give the mean over the processes that train together: each of them has seen other samples."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return values
    mean = values.clone()
    distributed.all_reduce(mean)
    return mean / distributed.get_world_size()

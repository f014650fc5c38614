"""Giving units a new start: fresh weights lead in, none lead out, and the optimizer forgets them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from bioconvert.functional.own_step import is_young, own_step
from bioconvert.plasticity.moment import Moment
from bioconvert.plasticity.optimizer_moments import moments_in
from bioconvert.plasticity.synapses import Synapses
from bioconvert.plasticity.units import Strand, Units


def renew(units: Units, chosen: torch.Tensor, synapses: Synapses, moment: Moment) -> None:
    """Give some units a new start.

    Incoming weights and bias are drawn as the constructors of torch's layers do, uniform in
    :math:`\\pm 1 / \\sqrt{\\text{fan in}}`; a normalisation behind them is set to slope 1 and shift 0.

    Args:
        units: the units of a layer.
        chosen: numbers of those that begin anew.
        synapses: the layer's weight.
        moment: the step.
    """
    for strand in units.strands():
        strand.put(strand.parameter.detach(), chosen, _fresh(units, strand, chosen, synapses, moment.step))
        for kept in moments_in(moment.states.get(strand.parameter, {}), strand.parameter):
            strand.put(kept, chosen, 0.0)
    mean, variance = (getattr(units.norm, name, None) for name in ("running_mean", "running_var"))
    if mean is not None and variance is not None:
        mean[chosen], variance[chosen] = 0.0, 1.0


def hand_on(units: Units, chosen: torch.Tensor, outputs: torch.Tensor) -> None:
    """Let the receiver's bias stand for the mean outputs of units that are about to go."""
    bias = units.receiver._parameters.get("bias")
    if bias is None:
        return
    strand = units.outgoing
    weights = torch.zeros_like(strand.parameter)
    strand.put(weights, chosen, strand.of(strand.parameter.detach(), chosen))
    by_unit = strand.by_unit(weights).float()
    scaled = by_unit * outputs.view(by_unit.shape[:2] + (1,) * (by_unit.dim() - 2))
    kept = tuple(range(3, by_unit.dim()))
    bias.detach().add_((scaled.sum((1, *kept))).flatten().to(bias.dtype))


def _fresh(
    units: Units, strand: Strand, chosen: torch.Tensor, synapses: Synapses, step: int
) -> torch.Tensor | float:
    if strand.outgoing:
        return 0.0
    norm, layer = units.norm, units.layer
    if norm is not None and any(strand.parameter is each for each in norm._parameters.values()):
        return 1.0 if strand.parameter is norm._parameters.get("weight") else 0.0
    shape = tuple(strand.parameter.shape[1:])
    name = "weight" if strand.parameter is layer._parameters["weight"] else "bias"
    bound = 1 / math.sqrt(max(synapses.weight[0].numel(), 1))
    drawn = [
        synapses.stream.uniform(f"rejuvenate {name} of unit {unit}", shape, step=step)
        for unit in chosen.tolist()
    ]
    return torch.stack(drawn).mul_(2).sub_(1).mul_(bound)


@dataclass(frozen=True, eq=False)
class YoungStrand:
    """What a parameter held of young units before a step.

    Args:
        strand: the parameter's elements.
        units: numbers of the young units.
        before: the elements of these, by value.
        age: the number of steps since each was renewed, the coming one included.
        row_age: the same for the rows of the parameter that are units of the next layer and corrected there;
            ``None`` for none.
    """

    strand: Strand
    units: torch.Tensor
    before: torch.Tensor
    age: torch.Tensor
    row_age: torch.Tensor | None = None

    def correct(self, state: Mapping[str, Any], group: Mapping[str, Any]) -> None:
        """Make the update what an optimizer would have made that began with the unit."""
        factor = own_step(self.age, state, group)
        if factor is None:
            return
        factor = factor.view(-1, *(1,) * (self.before.dim() - 1))
        if self.row_age is not None:
            by_row = own_step(self.row_age, state, group)
            assert by_row is not None
            older = self._by_element(self.row_age) > self.age.view(factor.shape)
            factor = torch.where(older, factor / self._by_element(by_row), 1.0)
        weight = self.strand.parameter.detach()
        after = self.strand.of(weight, self.units)
        # What has no moments was renewed after this very step, and isn't an update of what was before.
        factor = torch.where(self.strand.of(state["exp_avg"], self.units) == 0, 1.0, factor)
        self.strand.put(weight, self.units, torch.lerp(self.before, after, factor.to(after.dtype)))

    def _by_element(self, by_row: torch.Tensor) -> torch.Tensor:
        weight = self.strand.parameter
        return self.strand.of(by_row.view(-1, *(1,) * (weight.dim() - 1)).expand_as(weight), self.units)


def young_strands(
    units: Units, age: torch.Tensor, receiver_age: torch.Tensor | None, group: Mapping[str, Any]
) -> list[YoungStrand]:
    """Take note of what belongs to young units before a step.

    Args:
        units: a layer's units.
        age: number of steps since each was renewed.
        receiver_age: the same of the receiver's units, if these are renewed too.
        group: the optimizer's settings.
    """
    young = is_young(age, group).nonzero().view(-1)
    if not len(young):
        return []
    rows = None if receiver_age is None else receiver_age + 1
    return [
        YoungStrand(
            strand,
            young,
            strand.of(strand.parameter.detach(), young),
            age[young] + 1,
            rows if strand.outgoing else None,
        )
        for strand in units.strands()
    ]

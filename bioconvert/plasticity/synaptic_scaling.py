"""Neurons that keep themselves about as active, or about as plastic, as they were: synaptic scaling."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from bioconvert.core.change import Change, Site, TensorRecipe
from bioconvert.core.errors import OptionError, Refused
from bioconvert.core.families import family_of
from bioconvert.core.lazy import LazyModule
from bioconvert.plasticity.mechanism import Mechanism, buffer_name, plastic
from bioconvert.plasticity.sides import receiving_side

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.utils.hooks import RemovableHandle

    from bioconvert.core.random import Stream
    from bioconvert.plasticity.moment import Moment
    from bioconvert.plasticity.part import Part
    from bioconvert.plasticity.synapses import Synapses
else:
    torch = LazyModule("torch")

Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_KEPT = ("activity", "target", "calls")
"""What is kept of each unit, and the number of calls that were seen."""
_SEEN = ("linear", "conv")
_MOST = 1.0
"""The greatest error that counts, a factor of e: a silent unit has an infinite one."""


@plastic("synaptic_scaling")
@dataclass(frozen=True, kw_only=True)
class SynapticScaling(Mechanism):
    r"""Scales each unit's incoming weights as a whole, towards an activity that it is to have.

    .. math::
        w_i \leftarrow w_i \, \exp\!\left(\beta \, \operatorname{clip}(\ln(r^*_i / r_i), -1, 1)\right)

    The activity :math:`r_i` is the mean of the positive part of what the layer gives for unit i, over samples
    and places, averaged over the latest calls in training. The bias isn't scaled. It comes to the target
    where it grows with the weights, unlike that of a Yat unit near the input it answers best.

    By ``scope: gradient`` it is plasticity that is kept, and nothing that is learnt is undone: each unit's
    update is scaled so that the gradients of all units add up to the same,
    :math:`\rho_i = \overline{\lVert g \rVert_1} / \lVert g_i \rVert_1`.

    Args:
        target_rate: :math:`r^*`, for every unit; ``None`` for what each has on average over ``window``
            calls, before the first change.
        beta: :math:`\beta`, how fast it goes.
        scope: ``"activity"`` or ``"gradient"``.
        window: number of calls in training over which the target is measured.
        memory: number of calls over which the activity is averaged.

    Reference:
        Turrigiano et al., *Activity-dependent scaling of quantal amplitude in neocortical neurons*,
        Nature 391, 1998
    """

    target_rate: Rate | None = None
    beta: Annotated[float, Field(gt=0, le=1)] = 0.02
    scope: Literal["activity", "gradient"] = "activity"
    window: Annotated[int, Field(ge=1)] = 100
    memory: Annotated[int, Field(ge=1)] = 10

    def __post_init__(self) -> None:
        # By activity there is nothing to scale an update by, and then no copy of the weight is made for it.
        object.__setattr__(self, "scales", self.scope == "gradient")

    def check(self, module: nn.Module, parameter: str) -> None:
        """Refuse what has no units, or none whose activity the output shows."""
        if self.scope == "activity" and (parameter != "weight" or family_of(type(module)) not in _SEEN):
            raise Refused(
                "the activity of units is seen for the weight of a linear or convolutional layer, not for "
                f"the {parameter} of a {type(module).__name__}; `scope: gradient` needs no activity"
            )
        weight = module._parameters[parameter]
        if weight is None or weight.dim() < 2:
            raise Refused(f"its {parameter} is no matrix, which has a row or column for each unit")

    def amend(self, change: Change, module: nn.Module, parameter: str, site: Site) -> Change:
        """Keep activity and target of each unit."""
        del site
        if self.scope == "gradient":
            return change
        side = receiving_side(module)

        def zeros(old: Mapping[str, torch.Tensor], stream: Stream) -> torch.Tensor:
            del stream
            return torch.zeros_like(side.sums(old[parameter]), dtype=torch.float32)

        def none(old: Mapping[str, torch.Tensor], stream: Stream) -> torch.Tensor:
            del stream
            return old[parameter].new_zeros(1, dtype=torch.int64)

        kept = dict(zip(_KEPT, (zeros, zeros, none), strict=True))
        adds = {
            buffer_name(self.name, parameter, key): TensorRecipe(
                make, reads=(parameter,), like=None, kind="buffer"
            )
            for key, make in kept.items()
        }
        return replace(change, adds={**change.adds, **adds})

    def watch(self, synapses: Synapses) -> Iterable[RemovableHandle]:
        """See how active the units are."""
        if self.scope == "gradient":
            return ()
        from bioconvert.plasticity.activity_watch import ActivityWatch

        activity, target, calls = (buffer_name(self.name, synapses.parameter, key) for key in _KEPT)
        window = self.window if self.target_rate is None else 0
        watcher = ActivityWatch((activity, target, calls), window, self.memory)
        return (synapses.module.register_forward_hook(watcher),)

    def prepare(self, synapses: Synapses, moment: Moment) -> None:
        """Find the rate of each unit.

        Raises:
            OptionError: the gradient isn't finite, which would spread to every unit.
        """
        if self.scope == "activity" or moment.gradient is None:
            return
        side = receiving_side(synapses.module)
        sizes = side.sizes(moment.gradient.float())
        # Rows are given out to processes, while a column has a part on each.
        sizes = sizes if side.by_row else synapses.total(sizes)
        sums = torch.stack([sizes.sum(), sizes.new_tensor(float(len(sizes)))])
        whole, units = synapses.total(sums) if side.by_row else sums
        if not bool(whole.isfinite()):
            raise OptionError(
                f"the gradient of {synapses.path!r} isn't finite: synaptic_scaling measures all units by it"
            )
        rates = whole / units / sizes
        moment.notes[self.name] = torch.where(sizes > 0, rates, torch.ones_like(rates))

    def scale(self, part: Part) -> None:
        """Multiply the update by the rates."""
        synapses = part.synapses
        rates = part.moment.notes[self.name]
        found = receiving_side(synapses.module).gather(rates, synapses.weight, part.place)
        part.multiply(found.to(part.weight.dtype), self)

    def change(self, synapses: Synapses, moment: Moment) -> None:
        """Scale the weights of each unit."""
        if self.scope == "gradient":
            return
        activity, target = agreed(torch.stack([synapses.tensor(self, key) for key in _KEPT[:2]]))
        if self.target_rate is not None:
            target = torch.full_like(activity, self.target_rate)
        error = (target.log() - activity.log()).clamp_(-_MOST, _MOST)
        # A unit that was silent in the window has a target of zero, and is let be.
        waits = synapses.tensor(self, "calls") <= (self.window if self.target_rate is None else 0)
        error.masked_fill_(waits | (target == 0), 0.0)
        factor = error.mul_(self.beta * self.strength_at(moment.step)).exp_()
        side, weight = receiving_side(synapses.module), synapses.weight
        weight.mul_(side.spread(factor.to(weight.dtype), synapses.held, synapses.rows))


def agreed(values: torch.Tensor) -> torch.Tensor:
    """Give the mean of what all processes found, each on its own samples."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return values
    mean = values.clone()
    distributed.all_reduce(mean)
    return mean / distributed.get_world_size()

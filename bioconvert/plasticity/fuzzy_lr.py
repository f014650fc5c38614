"""A learning rate of its own for each weight, drawn once: fuzzy learning rates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from bioconvert.core.change import Change, Old, Site, TensorRecipe
from bioconvert.core.errors import OptionError, Refused
from bioconvert.core.lazy import LazyModule
from bioconvert.plasticity.distributions import MOST, Distribution, Draw, lies_within, rates
from bioconvert.plasticity.mechanism import Mechanism, buffer_name, plastic, weight_like
from bioconvert.plasticity.rates import Bounds, Storage, decode, encode
from bioconvert.plasticity.schedule import Count, Period

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.utils.hooks import RemovableHandle

    from bioconvert.core.random import Stream
    from bioconvert.plasticity import firing
    from bioconvert.plasticity.part import Part
    from bioconvert.plasticity.synapses import Synapses
else:
    torch = LazyModule("torch")
    firing = LazyModule("bioconvert.plasticity.firing")

Share = Annotated[float, Field(ge=0, le=1)]


@plastic("fuzzy_lr")
@dataclass(frozen=True, kw_only=True)
class FuzzyRates(Mechanism):
    r"""Multiplies each weight's update by a rate :math:`\rho` of its own.

    The rate is drawn when the mechanism is attached and kept in the buffer ``fuzzy_lr_rate``, by

    - ``baseline``: :math:`\rho = 1`;
    - ``uniform``: :math:`\rho \sim U(1 - \nu, 1 + \nu)`;
    - ``normal``: :math:`\rho \sim N(1, \nu^2)`;
    - ``lognormal``: :math:`\ln \rho \sim N(-\nu^2/2, \nu^2)`;
    - ``gamma``: :math:`\rho \sim \Gamma(1/\nu)` with scale :math:`\nu`;
    - ``beta``: :math:`\rho = 1 + (2b - 1)\,\nu` with :math:`b \sim B(1/\nu, 1/\nu)`;
    - ``weight_adaptive``: uniform with spread :math:`\nu\,(2 - |w| / \overline{|w|})`, the factor within
      [0.5, 1.5]: small weights vary most;

    each with mean 1 before the bounds. Three vary with time what was drawn uniformly, by
    :math:`1 + s\,(\rho - 1)`:

    - ``layer_adaptive``: :math:`s = 1 - l / 2L` at depth :math:`l` of :math:`L`;
    - ``temporal``: :math:`s` decays by ``decay`` every ``decay_every`` steps; every ``noise_every``, normal
      noise of deviation ``noise`` :math:`\cdot\,\nu` is added to the rates;
    - ``activity``: :math:`s = 3/2 - f` with :math:`f` the share of outputs at which the weight's unit fires:
      silent units vary most. The layer's outputs are watched while it is trained.

    Args:
        distribution: which of these the rates are drawn from.
        nu: :math:`\nu`, the spread.
        bounds: least and greatest rate.
        storage: ``"full"`` keeps rates in the weight's type, ``"compact"`` in a byte each.
        layer_index: :math:`l`; ``None`` for the place among the weights that mechanisms are attached to.
        total_layers: :math:`L`, likewise.
        decay: what ``temporal`` leaves of :math:`\rho - 1`.
        decay_every: after how many steps.
        noise: its deviation, in units of :math:`\nu`.
        noise_every: after how many steps it is added.
        threshold: a unit fires where its output is greater.
        memory: the share of the average firing that one call of the layer leaves.

    Raises:
        OptionError: only one of ``layer_index`` and ``total_layers`` is given, or they don't fit.
    """

    distribution: Distribution = "uniform"
    nu: Share = 0.16
    bounds: Bounds = (0.5, 2.0)
    storage: Storage = "full"
    layer_index: Count | None = None
    total_layers: Period | None = None
    decay: Share = 0.9995
    decay_every: Period = 100
    noise: Annotated[float, Field(ge=0)] = 0.1
    noise_every: Period = 1000
    threshold: float = 0.01
    memory: Share = 0.9

    scales: ClassVar[bool] = True

    def __post_init__(self) -> None:
        index, total = self.layer_index, self.total_layers
        if (index is None) != (total is None):
            raise OptionError("fuzzy_lr: layer_index and total_layers are given both or not at all")
        if index is not None and total is not None and index >= total:
            raise OptionError(f"fuzzy_lr: layer_index must be less than total_layers, got {index} of {total}")

    def check(self, module: nn.Module, parameter: str) -> None:
        """Refuse weights without units where these count, and NaN where sizes do."""
        if self.distribution == "activity" and firing.unit_axis(module, parameter) is None:
            raise Refused(
                f"no dimension of its {parameter} is that of its output's units, whose firing counts"
            )
        if self.distribution == "weight_adaptive" and not _is_finite(module._parameters[parameter]):
            raise Refused(f"its {parameter} isn't finite, and rates go by the size of weights")

    def tensors(self, parameter: str) -> Mapping[str, TensorRecipe]:
        """Keep the rate of each weight."""

        def drawn(weight: torch.Tensor, stream: Stream) -> torch.Tensor:
            draw = Draw(nu=self.nu, weight=weight, stream=stream, purpose=f"fuzzy_lr {parameter}")
            made = rates(self.distribution, draw)
            if not lies_within(self.distribution, self.nu, *self.bounds):
                made.clamp_(*self.bounds)
            return encode(made, self.bounds, self.storage)

        return {"rate": weight_like(parameter, drawn)}

    def amend(self, change: Change, module: nn.Module, parameter: str, site: Site) -> Change:
        """Keep how often units fire, where that counts; as long as nothing was seen, half of the time."""
        del site
        axis = firing.unit_axis(module, parameter)
        if self.distribution != "activity" or axis is None:
            return change

        def unseen(old: Old, stream: Stream) -> torch.Tensor:
            del stream
            weight = old[parameter]
            return torch.full((weight.shape[axis],), 0.5, device=weight.device)

        fired = TensorRecipe(unseen, reads=(parameter,), like=None, kind="buffer")
        return replace(change, adds={**change.adds, buffer_name(self.name, parameter, "firing"): fired})

    def watch(self, synapses: Synapses) -> Iterable[RemovableHandle]:
        """Watch how often units fire, where that counts."""
        if self.distribution != "activity":
            return ()
        buffer = buffer_name(self.name, synapses.parameter, "firing")
        axis = firing.output_axis(synapses.module)
        watch = firing.FiringWatch(buffer, axis, self.threshold, self.memory)
        return (synapses.module.register_forward_hook(watch),)

    def scale(self, part: Part) -> None:
        """Multiply the update by the rates."""
        drawn = decode(part.kept(self, "rate"), self.bounds)
        if self.distribution == "temporal":
            drawn = self._with_noise(drawn, part)
        spread = self._spread(part)
        if spread is not None:
            drawn = drawn.sub(1).mul_(spread).add_(1).clamp_(*self.bounds)
        part.multiply(drawn, self)

    def report(self, synapses: Synapses) -> Mapping[str, float]:
        """Give the mean of the rates that were drawn."""
        return {"mean rate": synapses.mean(decode(synapses.tensor(self, "rate"), self.bounds))}

    def _spread(self, part: Part) -> float | torch.Tensor | None:
        """Give what the distance of the rates from 1 is multiplied by at this step."""
        if self.distribution == "layer_adaptive":
            index, total = self.layer_index, self.total_layers
            if index is None or total is None:
                index, total = part.synapses.index, part.synapses.count
            return 1 - index / (2 * total)
        if self.distribution == "temporal":
            elapsed = part.moment.step - self.start
            return self._decayed(_last(elapsed, self.noise_every), elapsed)
        if self.distribution == "activity":
            synapses = part.synapses
            axis = firing.unit_axis(synapses.module, synapses.parameter)
            assert axis is not None
            fired = synapses.tensor(self, "firing")
            factor = firing.by_unit(fired, synapses.weight.stride(axis), part.start, part.weight.numel())
            return factor.neg_().add_(MOST)
        return None

    def _with_noise(self, drawn: torch.Tensor, part: Part) -> torch.Tensor:
        """Add noise to the rates where its time has come, and to those that are kept."""
        elapsed = part.moment.step - self.start
        previous, now = (_last(step, self.noise_every) for step in (elapsed - self.every, elapsed))
        if now == max(previous, 0):
            return drawn
        noise = part.normal(self, "noise").mul_(self.noise * self.nu)
        changed = drawn.sub(1).mul_(self._decayed(max(previous, 0), now)).add_(1).add_(noise)
        part.kept(self, "rate").copy_(encode(changed.clamp_(*self.bounds), self.bounds, self.storage))
        return changed

    def _decayed(self, since: int, until: int) -> float:
        return self.decay ** (until // self.decay_every - since // self.decay_every)


def _is_finite(weight: torch.Tensor | None) -> bool:
    return weight is None or weight.is_meta or bool(weight.isfinite().all())


def _last(step: int, period: int) -> int:
    """Give the last multiple of a period up to a step."""
    return step - step % period

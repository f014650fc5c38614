"""A learning rate of its own for each weight, drawn once: fuzzy learning rates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from bioconvert.core.change import TensorRecipe
from bioconvert.core.errors import OptionError, Refused
from bioconvert.core.lazy import LazyModule
from bioconvert.plasticity.distributions import LEAST, MOST, Distribution, Draw, rates
from bioconvert.plasticity.firing import FiringWatch, by_unit, unit_axis
from bioconvert.plasticity.mechanism import Mechanism, buffer_name, plastic, weight_like
from bioconvert.plasticity.rates import Bounds, Storage, decode, encode
from bioconvert.plasticity.schedule import Count, Period

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.utils.hooks import RemovableHandle

    from bioconvert.plasticity.part import Part
    from bioconvert.plasticity.synapses import Synapses
else:
    torch = LazyModule("torch")

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
        distribution: its name.
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
        if self.distribution == "activity" and unit_axis(module, parameter) is None:
            raise Refused(f"no dimension of its {parameter} is that of its output's units, whose firing counts")
        weight = module._parameters[parameter]
        if self.distribution == "weight_adaptive" and weight is not None and not weight.is_meta:
            if not weight.isfinite().all():
                raise Refused(f"its {parameter} isn't finite")

    def tensors(self, parameter: str) -> Mapping[str, TensorRecipe]:
        """Keep the rate of each weight, and how often units fire where that counts."""

        def drawn(weight: torch.Tensor, stream: Any) -> torch.Tensor:
            draw = Draw(nu=self.nu, weight=weight, stream=stream, purpose=f"fuzzy_lr {parameter}")
            kept = encode(rates(self.distribution, draw).clamp_(*self.bounds), self.bounds, self.storage)
            # In memory as the weight is, so that pieces of the two are pieces of the same weights.
            return kept if weight.is_contiguous() else torch.empty_like(weight, dtype=kept.dtype).copy_(kept)

        found = {"rate": weight_like(parameter, drawn)}
        if self.distribution == "activity":
            found["firing"] = ...
        return found

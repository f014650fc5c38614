"""Weights that settle: a rate that shrinks, or a pull towards what was learned, by importance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import Field

from bioconvert.core.change import TensorRecipe
from bioconvert.core.errors import OptionError, Refused
from bioconvert.core.lazy import LazyModule
from bioconvert.plasticity.anchoring import anchoring_tensors, hold_back, kept_as_made, settle
from bioconvert.plasticity.importance import LAWS
from bioconvert.plasticity.mechanism import Mechanism, plastic
from bioconvert.plasticity.rates import Storage, decode, encode
from bioconvert.plasticity.schedule import Period

if TYPE_CHECKING:
    import torch
    from torch import nn

    from bioconvert.plasticity import layout
    from bioconvert.plasticity.moment import Moment
    from bioconvert.plasticity.part import Part
    from bioconvert.plasticity.synapses import Synapses
else:
    torch = LazyModule("torch")
    layout = LazyModule("bioconvert.plasticity.layout")


_CRYSTAL = 0.1
"""Rate below which a weight counts as crystallized, for the history."""


@plastic("crystallize")
@dataclass(frozen=True, kw_only=True)
class Crystallize(Mechanism):
    r"""Makes weights settle, by one of four laws.

    Under ``reference``, a weight whose gradient is small beside the weight, or large beside the layer, slows
    down for good, and each update is multiplied by the rate:

    .. math::
        |g| \le t\,|w| \;\text{ or }\; |g| > \overline{|w|} \quad\Rightarrow\quad
        \rho \leftarrow \max(\rho\, d, f), \qquad \rho \leftarrow \rho + r\,(1 - \rho)

    Under the others, weights that mattered are pulled back to what they were when a task was over, by an
    implicit (proximal) step after the optimizer's, of the learning rate :math:`\eta`:

    .. math::
        \theta \leftarrow \frac{\theta + a\,\theta^*}{1 + a}, \qquad a = 2\,\eta\,\lambda\,\Omega, \qquad
        \Omega \leftarrow (1 - r)\,\Omega

    It is stable whatever :math:`a`; :math:`a \to \infty` freezes the weight. When a task is over,
    ``Plasticity.consolidate()`` adds what the law measured, with a mean of 1 over the parameter, to
    :math:`\Omega`, and :math:`\theta^*` becomes the weight as it is then. What is measured:

    - ``si``, synaptic intelligence: :math:`\max(\omega, 0) / (\Delta^2 + \xi)`, where :math:`\omega` sums
      :math:`-g\,\delta\theta` over the steps in which the mechanism acts, :math:`\delta\theta` being the
      weight's whole motion, pull included; :math:`\Delta` is the distance from :math:`\theta^*`, and
      :math:`\xi` ten times the mean of :math:`\Delta^2`.
    - ``ewc``: a running mean of :math:`g^2` over about the last 100 steps. It is the empirical Fisher
      information of *batches* seen while training: not that of single samples at the final weights, nor of
      labels drawn from the model.
    - ``mas``, memory-aware synapses: the mean over the batches given to ``consolidate`` of
      :math:`|\partial \lVert y \rVert^2 / \partial \theta|`, summed over a batch: batches of one sample give
      the published measure, larger ones let samples cancel each other.

    Args:
        law: ``"reference"``, ``"si"``, ``"mas"`` or ``"ewc"``.
        threshold: :math:`t`, of the reference law.
        damping: :math:`d`, of the reference law.
        floor: :math:`f`, the least rate of the reference law.
        recovery: :math:`r`, how much comes back at each step: of the rate towards 1, or of importance to 0.
        strength: :math:`\lambda`, of the laws of importance.
        storage: ``"full"`` keeps rates in fp32 or the weight's wider type, ``"compact"`` in a byte each.
        consolidate_every: a task counts as over after so many steps at which ``si`` or ``ewc`` acts; ``None``
            leaves it to ``Plasticity.consolidate()``.

    Reference:
        Zenke, Poole, Ganguli, *Continual Learning Through Synaptic Intelligence*,
        https://arxiv.org/abs/1703.04200; Aljundi et al., *Memory Aware Synapses*,
        https://arxiv.org/abs/1711.09601; Kirkpatrick et al., *Overcoming catastrophic forgetting in neural
        networks*, https://arxiv.org/abs/1612.00796

    Example:
        >>> Crystallize(law="si", strength=0.5).law
        'si'
    """

    law: Literal["reference", "si", "mas", "ewc"] = "reference"
    threshold: Annotated[float, Field(ge=0)] = 4.5e-5
    damping: Annotated[float, Field(gt=0, le=1)] = 0.6
    floor: Annotated[float, Field(ge=0, lt=1)] = 0.01
    recovery: Annotated[float, Field(ge=0, le=1)] = 0.0
    strength: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.03
    storage: Storage = "full"
    consolidate_every: Period | None = None

    @property
    def anchors(self) -> bool:
        """Whether the law is one of importance."""
        return self.law in LAWS

    @property
    def scales(self) -> bool:  # type: ignore[override]
        """Whether it multiplies the update: under the reference law."""
        return not self.anchors

    @property
    def compares(self) -> bool:  # type: ignore[override]
        """Whether it looks at the weights before the step."""
        return self.anchors and LAWS[self.law].compares

    def check(self, module: nn.Module, parameter: str) -> None:
        """Refuse options that don't go together."""
        del module, parameter
        if self.storage == "compact" and not self.floor:
            raise Refused("`storage: compact` keeps the logarithm of a rate: `floor` must be above 0")
        if self.consolidate_every and self.law not in ("si", "ewc"):
            raise Refused(f"`consolidate_every` is for the laws `si` and `ewc`, not for `{self.law}`")

    def tensors(self, parameter: str) -> Mapping[str, TensorRecipe]:
        """Keep a rate, or importance and what it is measured from."""
        if self.anchors:
            return anchoring_tensors(self.law, parameter)
        return {
            "rate": kept_as_made(
                parameter, lambda weight: self._kept(torch.ones_like(layout.in_full(weight)))
            )
        }

    def prepare(self, synapses: Synapses, moment: Moment) -> None:
        """Check the numbers, and take what the step will change."""
        from bioconvert.plasticity.part import mean_size

        assert moment.gradient is not None
        greatest = require_finite(moment.gradient, f"the gradient of {synapses.path!r}")
        mean = mean_size(synapses, moment)
        if not math.isfinite(mean):
            raise OptionError(f"{synapses.path!r} isn't finite: crystallize can't measure by it")
        gradient = layout.laid_like(moment.gradient, synapses.weight)
        if gradient is moment.gradient and self._is_late(synapses):
            gradient = gradient.clone(memory_format=torch.preserve_format)
        # The next number up: a gradient as large as the mean is not larger.
        largest = float(torch.tensor(mean).square().nextafter(torch.tensor(math.inf)))
        row = layout.flat(gradient)
        moment.notes[self.name] = _Noted(gradient, row, largest if greatest > mean else None)

    def scale(self, part: Part) -> None:
        """Slow down what settles, and multiply the update by the rates."""
        noted: _Noted = part.moment.notes[self.name]
        kept = part.kept(self, "rate")
        rates = decode(kept, self._bounds)
        if self.recovery:
            rates = self._recovered(rates, part)
        # A comparison that multiplies as it goes: with booleans it takes several times as long (measured).
        moving = self._moving(part, noted)
        slow = torch.ops.aten.leaky_relu_backward.grad_input
        slow(rates, moving, self.damping, False, grad_input=rates)
        rates.clamp_(min=self.floor)
        if rates is not kept:
            kept.copy_(self._kept(rates))
        part.multiply(rates, self)

    def _moving(self, part: Part, noted: _Noted) -> torch.Tensor:
        """Give positive numbers where a weight goes on as it did, and others where it settles."""
        gradient = layout.in_full(noted.row[part.place])
        weight = layout.in_full(part.weight)
        room = torch.mul(gradient, gradient, out=part.room())
        if noted.largest is not None:
            room.neg_()
            torch.threshold_(room, -noted.largest, math.inf).neg_()
        return room.addcmul_(weight, weight, value=-(self.threshold**2))

    def change(self, synapses: Synapses, moment: Moment) -> None:
        """Pull the weights back by importance, and consolidate when it is time."""
        if not self.anchors:
            return
        noted: _Noted = moment.notes[self.name]
        hold_back(self, synapses, moment, noted.gradient)
        acted = (moment.step - self.start + 1) // self.every
        if self.consolidate_every and acted % self.consolidate_every == 0:
            settle(self, synapses)

    def report(self, synapses: Synapses) -> Mapping[str, float]:
        """Give the mean rate, or the mean importance."""
        key = "importance" if self.anchors else "rate"
        kept = decode(synapses.tensor(self, key), self._bounds)
        if self.anchors:
            return {"mean importance": synapses.mean(kept)}
        return {"mean rate": synapses.mean(kept), "crystal": synapses.mean(kept < _CRYSTAL)}

    @property
    def _bounds(self) -> tuple[float, float]:
        return (self.floor, 1.0)

    def _kept(self, rates: torch.Tensor) -> torch.Tensor:
        return encode(rates, self._bounds, self.storage)

    def _recovered(self, rates: torch.Tensor, part: Part) -> torch.Tensor:
        """Bring rates nearer to 1; in a byte by chance, where rounding would undo a small step."""
        rates = torch.lerp(rates, torch.ones_like(rates), self.recovery)
        if self.storage == "full":
            return rates
        chance = torch.special.ndtr(part.normal(self, "rounding").float()).sub_(0.5)
        level = math.log(self.floor) - math.log(_second_rate(self._bounds))
        return rates.mul_(chance.mul_(level).exp_()).clamp_(*self._bounds)

    def _is_late(self, synapses: Synapses) -> bool:
        """Say whether others may have scaled the gradient when it is looked at again."""
        if self.scales and self.target == "gradient":
            return False
        others = [each for each in synapses.mechanisms if each is not self and each.scales]
        if self.scales:
            return any(each.target not in ("update", self.target) for each in others)
        return any(each.target != "update" for each in others)


class _Noted(NamedTuple):
    """What was found of a parameter before a step.

    Args:
        gradient: its gradient.
        row: the same, flat.
        largest: the square from which an element of it is large; ``None`` where none is.
    """

    gradient: torch.Tensor
    row: torch.Tensor
    largest: float | None


def _second_rate(bounds: tuple[float, float]) -> float:
    """Give the least rate but one that fits in a byte."""
    return float(decode(torch.tensor(1, dtype=torch.uint8), bounds))


def require_finite(tensor: torch.Tensor, name: str) -> float:
    """Make sure that a tensor's elements are finite, and give the greatest magnitude.

    Raises:
        OptionError: one isn't.
    """
    if not tensor.numel():
        return 0.0
    least, most = map(float, torch.aminmax(tensor.detach()))
    if not (math.isfinite(least) and math.isfinite(most)):
        raise OptionError(f"{name} isn't finite: crystallize can't measure by it")
    return max(most, -least)

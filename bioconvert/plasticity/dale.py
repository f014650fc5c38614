"""One sign for all synapses of a neuron: Dale's principle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from bioconvert.core.change import Change, Site, TensorRecipe
from bioconvert.core.errors import Refused
from bioconvert.core.lazy import LazyModule
from bioconvert.plasticity.mechanism import Mechanism, buffer_name, plastic
from bioconvert.plasticity.sides import Side, receiving_side, sending_side
from bioconvert.ruleset.patterns import Patterns, check_pattern, deadline

if TYPE_CHECKING:
    import torch
    from torch import nn

    from bioconvert.core.random import Stream
    from bioconvert.plasticity.moment import Moment
    from bioconvert.plasticity.synapses import Synapses
else:
    torch = LazyModule("torch")


def _checked(pattern: str) -> str:
    check_pattern(pattern)
    return pattern


Axis = Literal["outgoing", "incoming"]
Signs = Literal["majority", "split", "fresh"]
Globs = Annotated[tuple[Annotated[str, AfterValidator(_checked)], ...], Field(strict=False)]
Exempt = Literal["last", "none"] | Globs
_NOTABLE = 0.01
"""Share of the weights' size from which on its loss is worth a warning."""
_LEAST = 1e-300
_PIECE = 65_536
"""Weights that are looked at together: few enough for the processor's cache."""


@plastic("dale")
@dataclass(frozen=True, kw_only=True)
class Dale(Mechanism):
    r"""Keeps all synapses of a neuron excitatory, or all inhibitory.

    .. math::
        w \leftarrow s \max(s w, 0) \quad \text{or} \quad w \leftarrow w \exp(\operatorname{sign}(w) \Delta w)

    The sign :math:`s` of each neuron is settled at attach and never changes; the weights are brought to it
    then, and after each step of the optimizer, which would change them by :math:`\Delta w`. For plain SGD
    that is :math:`-\eta g`, and the second form is the exponentiated gradient. A constraint holds or doesn't:
    ``warmup`` makes no difference.

    Args:
        axis: whose synapses have one sign: ``"outgoing"`` those of the unit that they come from, as the
            principle has it, a column of a Linear's weight and a channel of a convolution's input;
            ``"incoming"`` those of the unit that they lead to.
        signs: ``"majority"`` gives a neuron the sign of which it has more, by size, and the others become
            zero; ``"fresh"`` draws signs and keeps sizes, which is a new start; ``"split"`` takes the signs
            as they are and refuses a layer with mixed ones, which
            :func:`~bioconvert.plasticity.dale_split` parts beforehand.
        by: ``"projection"``, the first form, sets what crosses zero to zero; ``"exponentiated"``, the second,
            never crosses it: a weight of zero stays zero, and rates must be larger, since changes are
            relative.
        exempt: ``"last"`` leaves the model's last layer alone, ``"none"`` no layer; or globs of module names.

    Reference:
        Cornford et al., *Learning to live with Dale's principle*, ICLR 2021; *Brain-like learning with
        exponentiated gradients*, 2024
    """

    axis: Axis = "outgoing"
    signs: Signs = "majority"
    by: Literal["projection", "exponentiated"] = "projection"
    exempt: Exempt = "last"

    closes: ClassVar[bool] = True

    def check(self, module: nn.Module, parameter: str) -> None:
        """Refuse what has no signs that could be chosen."""
        weight = module._parameters[parameter]
        if weight is None or weight.dim() < 2:
            raise Refused(f"its {parameter} has no two sides: a synapse needs a unit on either")
        if not weight.is_meta and bool(weight.detach().isnan().any()):
            raise Refused(f"its {parameter} has NaNs, which have no sign")

    def amend(self, change: Change, module: nn.Module, parameter: str, site: Site) -> Change:
        """Settle the signs, and bring the weights to them."""
        if self._is_exempt(site):
            why = "it is the model's last layer" if self.exempt == "last" else "its name is among the globs"
            raise Refused(f"`exempt` leaves it alone: {why}")
        side = self.side(module)

        def sign(old: Mapping[str, torch.Tensor], stream: Stream) -> torch.Tensor:
            return self._drawn(old[parameter], side, parameter, stream)

        def signed(old: Mapping[str, torch.Tensor], stream: Stream) -> torch.Tensor:
            weight, spread = old[parameter], side.spread(sign(old, stream), old[parameter])
            return weight.abs() * spread if self.signs == "fresh" else (weight * spread).relu() * spread

        weight = module._parameters[parameter]
        assert weight is not None
        summary, warnings = self._told(weight.detach(), side, parameter, site.path)
        recipe = TensorRecipe(sign, reads=(parameter,), like=parameter, kind="buffer")
        overwrites = {
            **change.overwrites,
            parameter: TensorRecipe(signed, reads=(parameter,), like=parameter),
        }
        return replace(
            change,
            adds={**change.adds, buffer_name(self.name, parameter, "sign"): recipe},
            overwrites=overwrites if self.signs != "split" else change.overwrites,
            summary="; ".join(each for each in (change.summary, summary) if each),
            warnings=(*change.warnings, *warnings),
        )

    def side(self, module: nn.Module) -> Side:
        """Give the side whose units have one sign each."""
        return sending_side(module) if self.axis == "outgoing" else receiving_side(module)

    def prepare(self, synapses: Synapses, moment: Moment) -> None:
        """Keep the weight, from which a relative change is measured."""
        if self.by == "exponentiated":
            weight = synapses.weight.detach()
            moment.notes[self.name] = weight.clone(memory_format=torch.preserve_format)

    def change(self, synapses: Synapses, moment: Moment) -> None:
        """Bring the weights back to their signs, or make of the change one that keeps them."""
        weight = synapses.weight
        if self.by == "exponentiated":
            _exponentiate(weight, moment.notes.pop(self.name))
            return
        sign = self._signs(synapses)
        least = torch.zeros_like(sign).masked_fill_(sign < 0, -torch.inf)
        most = torch.zeros_like(sign).masked_fill_(sign > 0, torch.inf)
        weight.clamp_(least, most)

    def report(self, synapses: Synapses) -> Mapping[str, float]:
        """Give the share of weights that have the wrong sign."""
        return {"violations": synapses.mean(synapses.weight * self._signs(synapses) < 0)}

    def _signs(self, synapses: Synapses) -> torch.Tensor:
        """Give the sign that each weight should have."""
        side = self.side(synapses.module)
        return side.spread(synapses.tensor(self, "sign"), synapses.held, synapses.rows)

    def _is_exempt(self, site: Site) -> bool:
        if isinstance(self.exempt, str):
            return self.exempt == "last" and site.is_last
        path = site.path.removesuffix(f".{site.parameter}") if site.parameter else site.path
        return Patterns(self.exempt, deadline()).match([path])

    def _drawn(self, weight: torch.Tensor, side: Side, parameter: str, stream: Stream) -> torch.Tensor:
        """Give the sign of each unit, -1 or 1."""
        total = side.sums(weight.double())
        if self.signs == "fresh":
            drawn = stream.uniform(f"dale {parameter}", tuple(total.shape))
            return torch.where(drawn < 0.5, -1.0, 1.0)
        return torch.where(total < 0, -1.0, 1.0)

    def _told(
        self, weight: torch.Tensor, side: Side, parameter: str, path: str
    ) -> tuple[str, tuple[str, ...]]:
        """Say what becomes of the weights, and what is lost."""
        if self.signs == "fresh":
            return "signs drawn anew", (f"{path}: with fresh signs the layer starts anew",)
        if weight.is_meta:
            return f"{self.signs} signs", ()
        excitatory, inhibitory = (side.sums(part.double().relu()) for part in (weight, -weight))
        lesser = torch.minimum(excitatory, inhibitory)
        if self.signs == "split":
            if mixed := int((lesser > 0).sum()):
                raise Refused(
                    f"{mixed} of {len(lesser)} units have {self.axis} synapses of both signs in its "
                    f"{parameter}: part them by bioconvert.plasticity.dale_split(model) first"
                )
            return "signs as they are", ()
        lost = float(lesser.sum() / (excitatory + inhibitory).sum().clamp_min(_LEAST))
        summary = f"majority signs, {100 * lost:.0f} % of the weights' size lost"
        warning = f"{path}: {100 * lost:.0f} % of the size of its weights has the wrong sign and becomes zero"
        return summary, (warning,) if lost > _NOTABLE else ()


def _exponentiate(weight: torch.Tensor, before: torch.Tensor) -> None:
    """Make of a weight's change since ``before`` a factor, in place."""
    from bioconvert.plasticity.layout import flat

    for now, old in zip(flat(weight).split(_PIECE), flat(before).split(_PIECE), strict=True):  # type: ignore[no-untyped-call]
        exact = old.float() if old.dtype in (torch.float16, torch.bfloat16) else old
        now.copy_((now - exact).mul_(exact.sign()).exp_().mul_(exact))

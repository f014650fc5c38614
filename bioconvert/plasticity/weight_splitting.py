"""Several synapses in the place of one weight: weight splitting."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from bioconvert.core.change import Change, Site, TensorRecipe
from bioconvert.core.classes import ancestor_names
from bioconvert.core.errors import OptionError, Refused
from bioconvert.core.families import family_of
from bioconvert.core.lazy import LazyModule
from bioconvert.plasticity.mechanism import OPTIONS, Mechanism, attribute_name, plastic

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

_SPLIT = "synapses"
_TRANSFORMERS_LINEAR = "transformers.pytorch_utils.Conv1D"


@plastic("weight_splitting")
@dataclass(frozen=True, kw_only=True)
class WeightSplitting(Mechanism):
    r"""Makes of each weight several synapses that add up to it, each trained as a weight of its own.

    .. math::
        w = \sum_{\gamma = 1}^{\Gamma} w_\gamma, \qquad w_\gamma = \frac{w}{\Gamma} + \sigma \,
        \Bigl( z_\gamma - \frac{1}{\Gamma} \sum_\delta z_\delta \Bigr), \quad z \sim N(0, 1)

    The layer computes what it did. It gets a parameter ``synapses``, and ``weight`` is their sum from then
    on. All synapses of a weight have the same gradient, so that on their own they train as the weight would:
    an update is divided by :math:`\Gamma`, since :math:`\Gamma` of them add up. What makes them differ are
    mechanisms that look at each one, attached to the parameter by a second conversion: ``match: {parameter:
    "**.synapses"}``.

    The parameter ``weight`` is trained no more. It has the sum's value after each step of a bound optimizer,
    in a ``state_dict``, and when the conversion is undone. FSDP2 can't shard such a layer, and is told so: it
    would take the sum for the parameter.

    By ``law: reference`` the outputs of each :math:`\Gamma` units are added up instead, behind an
    activation, and each of them is given the sum. That changes what a network computes and how large it is: a
    trained one is lost. There is nothing to do at a step then.

    Args:
        synapses: :math:`\Gamma`.
        noise: :math:`\sigma`, in units of the weight's standard deviation.
        law: ``"synapses"`` or ``"reference"``.
        activation: what comes before the sum, by ``law: reference``.
    """

    synapses: Annotated[int, Field(ge=2)] = 2
    noise: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.1
    law: Literal["synapses", "reference"] = "synapses"
    activation: Literal["none", "relu", "gelu", "silu", "tanh", "sigmoid"] = "none"

    def __post_init__(self) -> None:
        # Pooled outputs have no synapses among which an update would have to be divided.
        object.__setattr__(self, "scales", self.law == "synapses")

    def check(self, module: nn.Module, parameter: str) -> None:
        """Refuse what doesn't compute with one weight."""
        name = type(module).__name__
        seen = ("linear", "conv") if self.law == "reference" else ("linear", "conv", "embedding")
        if parameter != "weight" or family_of(type(module)) not in seen:
            raise Refused(
                f"the {parameter} of a {name} can't be split: only the weight of a {', '.join(seen)}"
            )
        if getattr(module, "max_norm", None) is not None:
            raise Refused("`max_norm` changes the weight in the forward, where it is a sum")
        units = _units(module)
        if self.law == "reference" and units % self.synapses:
            raise Refused(
                f"its {units} outputs can't be added up in groups of {self.synapses}: `synapses` must divide "
                "their number by `law: reference`"
            )

    def amend(self, change: Change, module: nn.Module, parameter: str, site: Site) -> Change:
        """Split the weight, or pool the outputs."""
        del site
        from bioconvert.layers.split_synapses import PooledOutputs, SplitSynapses

        weight = module._parameters[parameter]
        assert weight is not None
        if self.law == "reference":
            is_conv = family_of(type(module)) == "conv"
            pool = {
                "pool_size": self.synapses,
                "pool_activation": self.activation,
                "pool_axis": 1 - weight.dim() if is_conv else -1,
            }
            warning = "by `law: reference`, weight_splitting changes what the layer computes"
            attributes = {**change.attributes, **pool}
            return replace(
                change, into=PooledOutputs, attributes=attributes, warnings=(*change.warnings, warning)
            )
        return replace(
            change,
            into=SplitSynapses,
            adds={_SPLIT: TensorRecipe(self._split)},
            attributes={attribute_name(self.name, _SPLIT): self.options},
            freezes=(parameter,),
            summary=f"{self.synapses} for each weight",
        )

    def watch(self, synapses: Synapses) -> Iterable[RemovableHandle]:
        """See to it that no other mechanism waits for a weight that is trained no more.

        Raises:
            OptionError: one does.
        """
        if self.law == "reference":
            return ()
        prefix, suffix = f"{OPTIONS}_", "__weight"
        others = [name for name in vars(synapses.module) if name.startswith(prefix) and name.endswith(suffix)]
        if others:
            names = ", ".join(name.removeprefix(prefix).removesuffix(suffix) for name in others)
            path = synapses.path.removesuffix(_SPLIT)
            raise OptionError(
                f"{names}: attached to '{path}weight', which weight_splitting made a sum of synapses; attach "
                f"to '{path}{_SPLIT}' by a second conversion (match: {{parameter: ...}})"
            )
        return ()

    def scale(self, part: Part) -> None:
        """Divide the update among the synapses."""
        part.multiply(torch.full_like(part.weight[:1], 1 / self.synapses), self)

    def change(self, synapses: Synapses, moment: Moment) -> None:
        """Let the parameter ``weight`` have the sum's value."""
        del moment
        if self.law == "synapses":
            weight = synapses.module._parameters["weight"]
            assert weight is not None
            weight.copy_(synapses.held.sum(0))

    def _split(self, old: Mapping[str, torch.Tensor], stream: Stream) -> torch.Tensor:
        weight = old["weight"]
        exact = weight.double()
        shape = (self.synapses, *weight.shape)
        z = stream.normal("weight_splitting", shape).to(exact)
        spread = self.noise * exact.std(correction=0)
        return (exact / self.synapses + spread * (z - z.mean(0))).to(weight.dtype)


def _units(module: nn.Module) -> int:
    weight = module._parameters["weight"]
    assert weight is not None
    if _TRANSFORMERS_LINEAR in ancestor_names(type(module)):
        return int(weight.shape[1])
    return int(getattr(module, "out_channels", weight.shape[0]))

"""A learning rate of its own for each weight, drawn once: fuzzy learning rates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from bioconvert.core.change import TensorRecipe
from bioconvert.plasticity.mechanism import Mechanism, plastic, weight_like
from bioconvert.plasticity.rates import Bounds, Storage, decode, encode

if TYPE_CHECKING:
    import torch

    from bioconvert.plasticity.part import Part


@plastic("fuzzy_lr")
@dataclass(frozen=True, kw_only=True)
class FuzzyRates(Mechanism):
    r"""Multiplies each weight's update by a rate :math:`\rho` drawn once.

    Args:
        nu: :math:`\nu`, the spread: :math:`\rho \sim U(1 \pm \nu)`.
        bounds: least and greatest rate.
        storage: ``"full"`` keeps rates in the weight's type, ``"compact"`` in a byte each.
    """

    nu: Annotated[float, Field(ge=0, le=1)] = 0.16
    bounds: Bounds = (0.5, 2.0)
    storage: Storage = "full"

    scales: ClassVar[bool] = True

    def tensors(self, parameter: str) -> Mapping[str, TensorRecipe]:
        """Keep the rate of each weight."""

        def make(weight: torch.Tensor, stream: Any) -> torch.Tensor:
            drawn = 1 + self.nu * (2 * stream.uniform(f"fuzzy_lr {parameter}", tuple(weight.shape)) - 1)
            return encode(drawn.clamp_(*self.bounds), self.bounds, self.storage)

        return {"rate": weight_like(parameter, make)}

    def scale(self, part: Part) -> None:
        """Multiply the update by the rates."""
        part.multiply(decode(part.kept(self, "rate"), self.bounds), self)

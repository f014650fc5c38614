"""What every Yat layer shares, over the linear map that it has from its torch class."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from bioconvert.functional.yat_formula import Coefficient
from bioconvert.layers.yat_options import yat_attributes

_DEFAULTS = yat_attributes()


class YatLayer(nn.Module):
    """The options of a Yat layer, as its functional counterpart takes them.

    A mixin, to stand before the torch class that holds weight and bias. It needs nothing but attributes and
    parameters (see :mod:`bioconvert.layers.yat_options`), so that an existing layer becomes a Yat layer by a
    change of its class.
    """

    bias_mode: Any
    alpha_mode: str
    per_unit: bool
    learnable_epsilon: bool
    spherical: bool
    weight_normalized: bool
    drop_connect: float
    floor: float

    def _weight_rows(self) -> torch.Tensor:
        """Give the weight with the output units first."""
        weight: torch.Tensor = self.weight  # type: ignore[assignment]
        return weight

    def _effective_weight(self) -> torch.Tensor:
        """Give the weight after normalisation and DropConnect, the output units first."""
        weight = self._weight_rows()
        if self.weight_normalized:
            weight = F.normalize(weight.flatten(1), dim=1).view_as(weight)
        return F.dropout(weight, self.drop_connect) if self.training and self.drop_connect else weight

    def _score_in(self, output: torch.Tensor, bias: torch.Tensor | None, axis: int) -> torch.Tensor | None:
        """Find the products of inputs and weights in what the linear map gave, if they can be used.

        Args:
            output: the linear map's output.
            bias: the bias that is in it.
            axis: the dimension of the output's units.
        """
        weight: torch.Tensor = self.weight  # type: ignore[assignment]
        altered = self.spherical or self.weight_normalized or (self.training and self.drop_connect > 0)
        if altered or output.dtype != weight.dtype or weight.dtype not in (torch.float32, torch.float64):
            return None
        if bias is None:
            return output
        return output - bias.view([-1 if i == axis else 1 for i in range(output.dim())])

    def _unit_arguments(self, units: int) -> dict[str, Any]:
        """Give the keyword arguments of the functional counterpart."""
        return {
            "alpha": self._factor(units),
            "epsilon": self._epsilon(),
            "offset": self._parameters.get("offset"),
            "bias_mode": self.bias_mode,
            "floor": self.floor,
            "spherical": self.spherical,
        }

    def _factor(self, units: int) -> Coefficient | None:
        if self.alpha_mode == "none":
            return None
        alpha: Coefficient = self.alpha  # type: ignore[assignment]
        if self.alpha_mode == "exponent":
            base: float = math.sqrt(units) / math.log1p(units)
            return base**alpha
        return alpha

    def _epsilon(self) -> Coefficient:
        if self.learnable_epsilon:
            return F.softplus(self.raw_epsilon)  # type: ignore[arg-type]
        epsilon: Coefficient = self.epsilon  # type: ignore[assignment]
        return epsilon

    def reset_parameters(self) -> None:
        r"""Draw weight and bias anew: Xavier normal, and :math:`U(\pm 1/\sqrt{\text{fan in}})`."""
        rows = self._weight_rows()
        nn.init.xavier_normal_(rows)
        bias = self._parameters.get("bias")
        if bias is not None:
            bound = 1 / math.sqrt(max(1, rows[0].numel()))
            nn.init.uniform_(bias, -bound, bound)

    def extra_repr(self) -> str:
        """Show the torch layer's options and, of ours, those that differ from the default."""
        own = vars(self)
        differing = [f"{k}={own[k]}" for k, value in _DEFAULTS.items() if k in own and own[k] != value]
        if self.alpha_mode == "constant":
            differing.append(f"alpha={self.alpha}")
        if "offset" in self._parameters:
            differing.append("offset=True")
        return ", ".join((super().extra_repr(), *differing))

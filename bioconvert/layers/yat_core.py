"""What every Yat layer shares, over the linear map that it has from its torch class."""

from __future__ import annotations

import logging
import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from bioconvert.functional.yat_formula import Coefficient
from bioconvert.layers.yat_options import yat_attributes

_log = logging.getLogger("bioconvert")
_EXTRA = ("alpha", "offset", "raw_epsilon", "epsilon")
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

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        """Let the checkpoint of a plain layer load: what it lacks keeps its value, with a notice."""
        own = {name for name in _EXTRA if name in self._parameters or name in self._buffers}
        lacking = sorted(name for name in own if f"{prefix}{name}" not in state_dict)
        for name in lacking:
            state_dict[f"{prefix}{name}"] = getattr(self, name).detach()
        if lacking:
            _log.info(
                "%s: not in the checkpoint, so kept as it is: %s", prefix.rstrip("."), ", ".join(lacking)
            )
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        for name in lacking:
            del state_dict[f"{prefix}{name}"]

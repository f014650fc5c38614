"""What every Yat layer shares, over the linear map that it has from its torch class."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from bioconvert.functional.units import effective_bias
from bioconvert.functional.yat_formula import Coefficient
from bioconvert.layers.yat_options import yat_attributes

_DEFAULTS = {**yat_attributes(), "constant_bias": None, "bank_size": None, "taps": "contributing"}
_LEAST_LENGTH = 1e-12
"""Length below which a kernel counts as zero when it is normalised."""


class YatLayer(nn.Module):
    """The options of a Yat layer, as its functional counterpart takes them.

    A mixin, to stand before the torch class that holds weight and bias. It needs nothing but attributes and
    parameters (see :mod:`bioconvert.layers.yat_options`), so that an existing layer becomes a Yat layer by a
    change of its class. An option with a value here may be missing on the instance.
    """

    bias_mode: Any
    alpha_mode: str
    per_unit: bool
    learnable_epsilon: bool
    spherical: bool
    weight_normalized: bool
    drop_connect: float
    floor: float
    softplus_bias: bool = False
    scalar_bias: bool = False
    constant_bias: float | None = None
    freeze_kernel: bool = False
    bank_size: int | None = None

    _product: Callable[..., torch.Tensor]
    """What ``forward`` does; with ``score``, from products of inputs and weights that are known already."""

    _unit_dim = 0
    """The dimension of the weight that holds the output units (of a group)."""

    @property
    @abstractmethod
    def _units(self) -> int:
        """The number of output units."""

    @property
    @abstractmethod
    def _unit_axis(self) -> int:
        """The dimension of the output that holds the units, counted from the last, which is -1."""

    def forward_beside(
        self, output: torch.Tensor, bias: torch.Tensor | None, *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Give the output for an input from what the linear map on the same weight gave for it.

        Args:
            output: the linear map's output.
            bias: the bias that is in it.
            *args: the input, as ``forward`` takes it.
            **kwargs: likewise.

        Returns:
            ``NotImplemented`` where the products that are in ``output`` are of no use.
        """
        weight: torch.Tensor = self.weight  # type: ignore[assignment]
        exact = output.dtype == weight.dtype and weight.dtype in (torch.float32, torch.float64)
        if not exact or self._alters_weight():
            return NotImplemented  # type: ignore[no-any-return]
        score = output if bias is None else output - bias.view(-1, *[1] * (-1 - self._unit_axis))
        return self._product(*args, **kwargs, score=score)

    def _alters_weight(self) -> bool:
        """Say whether the products are not those of the input and the weight as it is."""
        altered = self.spherical or self.weight_normalized or (self.training and self.drop_connect > 0)
        return altered or self._buffers.get("mask") is not None or self.bank_size is not None

    def _kernel(self) -> torch.Tensor:
        """Give the weight, or as much of a bank of kernels as the layer uses."""
        weight: torch.Tensor = self.weight  # type: ignore[assignment]
        if self.bank_size is None:
            return weight
        groups = getattr(self, "groups", 1) if self._unit_dim else 1
        return weight.narrow(self._unit_dim, 0, self._units // groups)

    def _effective_weight(self) -> torch.Tensor:
        """Give the weight after masking, normalisation and DropConnect, in this order."""
        weight = self._kernel()
        mask = self._buffers.get("mask")
        if mask is not None:
            weight = weight * mask
        if self.weight_normalized:
            weight = self._normalized(weight)
        return F.dropout(weight, self.drop_connect) if self.training and self.drop_connect else weight

    def _normalized(self, weight: torch.Tensor) -> torch.Tensor:
        """Bring each unit's kernel to unit length."""
        if self._unit_dim == 0:
            return weight / _lengths(weight, range(1, weight.dim()))
        groups = weight.unflatten(0, (getattr(self, "groups", 1), -1))  # type: ignore[no-untyped-call]
        unit: torch.Tensor = groups / _lengths(groups, (1, *range(3, groups.dim())))
        return unit.view_as(weight)

    def _unit_arguments(self) -> dict[str, Any]:
        """Give the arguments of the functional counterpart that belong to the units."""
        return {
            "bias": effective_bias(
                getattr(self, "bias", None),
                softplus=self.softplus_bias,
                scalar=self.scalar_bias,
                constant=self.constant_bias,
            ),
            "alpha": self._factor(),
            "epsilon": self._epsilon(),
            "offset": self._parameters.get("offset"),
            "bias_mode": self.bias_mode,
            "floor": self.floor,
            "spherical": self.spherical,
        }

    def _factor(self) -> Coefficient | None:
        if self.alpha_mode == "none":
            return None
        alpha: Coefficient = self.alpha  # type: ignore[assignment]
        if self.alpha_mode == "exponent":
            base: float = math.sqrt(self._units) / math.log1p(self._units)
            return base**alpha
        return alpha

    def _epsilon(self) -> Coefficient:
        if self.learnable_epsilon:
            return F.softplus(self.raw_epsilon)  # type: ignore[arg-type]
        epsilon: Coefficient = self.epsilon  # type: ignore[assignment]
        return epsilon

    def reset_parameters(self) -> None:
        r"""Draw weight and bias anew: Xavier normal, and :math:`U(\pm 1/\sqrt{\text{fan in}})`."""
        weight: torch.Tensor = self.weight  # type: ignore[assignment]
        nn.init.xavier_normal_(weight)
        bias = self._parameters.get("bias")
        if bias is not None:
            bound = 1 / math.sqrt(max(1, self._kernel().numel() // self._units))
            nn.init.uniform_(bias, -bound, bound)

    def extra_repr(self) -> str:
        """Show the torch layer's options and, of ours, those that differ from the default."""
        own = vars(self)
        differing = [f"{k}={own[k]}" for k, value in _DEFAULTS.items() if own.get(k, value) != value]
        if self.alpha_mode == "constant":
            differing.append(f"alpha={self.alpha}")
        differing += [f"{name}=True" for name in ("offset", "mask") if getattr(self, name, None) is not None]
        return ", ".join((super().extra_repr(), *differing))


def _lengths(weight: torch.Tensor, dims: Iterable[int]) -> torch.Tensor:
    lengths: torch.Tensor = torch.linalg.vector_norm(weight, dim=tuple(dims), keepdim=True)
    return lengths.clamp_min(_LEAST_LENGTH)

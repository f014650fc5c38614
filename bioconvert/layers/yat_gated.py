"""What recurrent Yat layers and cells share, over the parameters that they have from their torch class."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional as F

from bioconvert.functional.gates import Gates, GruUnit, LstmUnit, RnnUnit, make_gates
from bioconvert.functional.over_time import Unit
from bioconvert.functional.yat_formula import Coefficient
from bioconvert.layers.gate_init import MEAN_SQUARE, GateInit
from bioconvert.layers.tolerance import tolerate
from bioconvert.layers.yat_options import yat_attributes, yat_parameters

GateAlpha = Literal["learnable", "none"] | float
EPSILON = 1.0
r""":math:`\varepsilon` by default: it bounds how steep a gate can be, which counts over many steps."""
GATE_TENSORS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
"""What a set of gates consists of, as torch names it; not every layer has all of them."""
_ATTRIBUTES = ("alpha_mode", "per_unit", "learnable_epsilon", "alpha", "epsilon")
_DEFAULTS = {"per_unit": False, "learnable_epsilon": False, "epsilon": EPSILON}


def gate_attributes(
    *,
    alpha: GateAlpha = "learnable",
    per_unit: bool = False,
    epsilon: float = EPSILON,
    learnable_epsilon: bool = False,
) -> dict[str, Any]:
    """Give the plain attributes of a recurrent Yat layer or cell with these options.

    Args:
        alpha: ``"learnable"``, ``"none"`` or a positive number.
        per_unit: whether alpha, and a learnable epsilon, are one for each row of the gates.
        epsilon: a positive number.
        learnable_epsilon: whether epsilon is a parameter, and no attribute.

    Raises:
        ValueError: an option is out of its bounds.
    """
    if alpha not in ("learnable", "none") and (isinstance(alpha, str) or not alpha > 0):
        raise ValueError(f"alpha must be 'learnable', 'none' or a positive number, got {alpha!r}")
    found = yat_attributes(
        alpha=alpha, per_unit=per_unit, epsilon=epsilon, learnable_epsilon=learnable_epsilon
    )
    return {name: found[name] for name in _ATTRIBUTES if name in found}


class YatGated(nn.Module):
    """The options of a recurrent Yat layer or cell, and its gates.

    A mixin, to stand before the torch class that holds the weights. It needs nothing but attributes and
    parameters, so that an existing layer becomes a Yat layer by a change of its class.
    """

    alpha_mode: str
    per_unit: bool
    learnable_epsilon: bool
    hidden_size: int
    opened: tuple[float, ...]
    """For each gate, what its Yat product is about in the beginning."""

    def __init__(
        self,
        *args: Any,
        alpha: GateAlpha = "learnable",
        per_unit: bool = False,
        epsilon: float = EPSILON,
        learnable_epsilon: bool = False,
        **kwargs: Any,
    ):
        options: dict[str, Any] = {
            "alpha": alpha,
            "per_unit": per_unit,
            "epsilon": epsilon,
            "learnable_epsilon": learnable_epsilon,
        }
        attributes = gate_attributes(**options)
        super().__init__(*args, **kwargs)
        vars(self).update(attributes)
        like = next(self.parameters())
        added = gate_parameters(self, **options).items()
        for suffix in gate_suffixes(self):
            for name, (shape, value) in added:
                self.register_parameter(f"{name}{suffix}", nn.Parameter(like.new_full(shape, value)))
        tolerate(self, [f"{name}{suffix}" for suffix in gate_suffixes(self) for name, _ in added])
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights anew, and set biases and alpha, such that gates are open as far as they should be.

        Rows have unit norm on average, ``bias_ih`` opens the gates, ``bias_hh`` is 0, and alpha fits inputs
        of unit variance; see :mod:`bioconvert.layers.gate_init`. Without a bias gates begin near 0.
        """
        if "alpha_mode" not in vars(self):
            return  # torch's constructor calls this before the options are there
        alpha: Any = getattr(self, "alpha", None) if self.alpha_mode == "constant" else self.alpha_mode
        epsilon = vars(self).get("epsilon", EPSILON)
        for suffix in gate_suffixes(self):
            init = initial_gates(self, suffix, self.opened, alpha=alpha, epsilon=epsilon)
            for name in (*GATE_TENSORS, "alpha"):
                parameter = self._parameters.get(f"{name}{suffix}")
                if parameter is not None:
                    _fill(parameter, init, name)

    def _unit(self, suffix: str, dtype: torch.dtype) -> Unit:
        """Give what is done at each step, in a type to compute in."""
        raise NotImplementedError

    def _gates(self, suffix: str, dtype: torch.dtype) -> Gates:
        bias = None
        if self.bias:
            bias = self._held(f"bias_ih{suffix}").to(dtype) + self._held(f"bias_hh{suffix}").to(dtype)
        of_inputs, of_states = (
            self._held(f"{name}{suffix}").to(dtype) for name in ("weight_ih", "weight_hh")
        )
        alpha, epsilon = self._factor(suffix, dtype), self._epsilon(suffix, dtype)
        return make_gates(of_inputs, of_states, bias, alpha=alpha, epsilon=epsilon)

    def _held(self, name: str) -> torch.Tensor:
        held: torch.Tensor = getattr(self, name)
        return held

    def _factor(self, suffix: str, dtype: torch.dtype) -> Coefficient | None:
        if self.alpha_mode == "none":
            return None
        if self.alpha_mode == "constant":
            return float(self.alpha)  # type: ignore[arg-type]
        return self._held(f"alpha{suffix}").to(dtype)

    def _epsilon(self, suffix: str, dtype: torch.dtype) -> Coefficient:
        if self.learnable_epsilon:
            return F.softplus(self._held(f"raw_epsilon{suffix}").to(dtype))
        return float(self.epsilon)  # type: ignore[arg-type]

    def extra_repr(self) -> str:
        """Show the torch layer's options and, of ours, those that differ from the default."""
        own = vars(self)
        differing = [f"{k}={own[k]}" for k, value in _DEFAULTS.items() if k in own and own[k] != value]
        if self.alpha_mode != "learnable":
            differing.append(f"alpha={own.get('alpha', 'none')}")
        return ", ".join((super().extra_repr(), *differing))


class RnnGates(YatGated):
    """The gates of a simple recurrent layer or cell: the state alone."""

    opened = (1.0,)
    nonlinearity: str

    def _unit(self, suffix: str, dtype: torch.dtype) -> Unit:
        return RnnUnit(self._gates(suffix, dtype), squashes=self.nonlinearity == "tanh")


class GruGates(YatGated):
    """The gates of a gated recurrent layer or cell: r, z, n."""

    opened = (1.0, 9.0, 1.0)

    def _unit(self, suffix: str, dtype: torch.dtype) -> Unit:
        return GruUnit(self._gates(suffix, dtype))


class LstmGates(YatGated):
    """The gates of a long short-term memory layer or cell: i, f, g, o."""

    opened = (1.0, 9.0, 1.0, 1.0)

    def _unit(self, suffix: str, dtype: torch.dtype) -> Unit:
        projection = self._parameters.get(f"weight_hr{suffix}")
        return LstmUnit(self._gates(suffix, dtype), None if projection is None else projection.to(dtype))


def gate_suffixes(layer: nn.Module) -> list[str]:
    """Give what the names of each set of gates' parameters end with, in the order of the states."""
    if not isinstance(layer, nn.RNNBase):
        return [""]
    directions = ("", "_reverse") if layer.bidirectional else ("",)
    return [f"_l{depth}{direction}" for depth in range(layer.num_layers) for direction in directions]


def gate_parameters(layer: nn.Module, **options: Any) -> dict[str, tuple[tuple[int, ...], float]]:
    """Give the parameters that come with these options to each set of gates: name → shape and neutral value.

    Args:
        layer: the layer or cell, of torch's class or ours.
        options: as for :func:`gate_attributes`.
    """
    rows = len(getattr(layer, f"weight_ih{gate_suffixes(layer)[0]}"))
    return yat_parameters(rows, **{"epsilon": EPSILON, **options})


def input_mean_square(suffix: str) -> float:
    """Give what is taken for the mean square of a set of gates' inputs: later layers see states."""
    return 1.0 if suffix == "" or suffix.startswith("_l0") else MEAN_SQUARE


def initial_gates(
    layer: Any, suffix: str, opened: tuple[float, ...], *, alpha: GateAlpha, epsilon: float
) -> GateInit:
    """Give the initial values of a set of gates.

    Args:
        layer: the layer or cell, of torch's class or ours.
        suffix: what the names of the set's parameters end with.
        opened: for each gate, what its Yat product is to be about.
        alpha: the option.
        epsilon: the option.
    """
    return GateInit(
        opened=opened,
        input_size=getattr(layer, f"weight_ih{suffix}").shape[1],
        mean_square=input_mean_square(suffix),
        state_size=getattr(layer, f"weight_hh{suffix}").shape[1],
        hidden_size=layer.hidden_size,
        epsilon=epsilon,
        alpha=1.0 if alpha == "none" else None if alpha == "learnable" else float(alpha),
    )


def _fill(parameter: torch.Tensor, init: GateInit, name: str) -> None:
    def draw(shape: tuple[int, ...]) -> torch.Tensor:
        return torch.rand(shape, device=parameter.device)

    with torch.no_grad():
        parameter.copy_(init.value(name, tuple(parameter.shape), draw))

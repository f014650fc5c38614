"""The options of every Yat layer: from the arguments that users give to what an instance holds.

A converted layer never ran a constructor: all that its forward needs are the attributes and parameters named
here, whichever way they came to the instance.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn

from bioconvert.functional.units import BiasMode
from bioconvert.layers.tolerance import tolerate

Alpha = Literal["learnable", "exponent", "none"] | float
_ALPHA_MODES = ("learnable", "exponent", "none")


def yat_attributes(
    *,
    bias_mode: BiasMode = "pre",
    alpha: Alpha = "learnable",
    per_unit: bool = False,
    offset: bool = False,
    epsilon: float = 1e-5,
    learnable_epsilon: bool = False,
    spherical: bool = False,
    weight_normalized: bool = False,
    drop_connect: float = 0.0,
    floor: float = 0.0,
) -> dict[str, Any]:
    """Give the plain attributes of a Yat layer with these options.

    Args:
        bias_mode: ``"pre"`` or ``"post"``.
        alpha: ``"learnable"``, ``"exponent"``, ``"none"`` or a number.
        per_unit: whether alpha is one for each unit.
        offset: whether there is an output offset; it shows in the parameters alone.
        epsilon: a positive number.
        learnable_epsilon: whether epsilon is a parameter, and no attribute.
        spherical: whether inputs and weights are brought to unit length.
        weight_normalized: whether weights are.
        drop_connect: probability that a weight is left out while training.
        floor: least squared distance, in units of the squared norms.

    Raises:
        ValueError: an option is out of its bounds.
    """
    del offset
    if bias_mode not in ("pre", "post"):
        raise ValueError(f"bias_mode must be 'pre' or 'post', got {bias_mode!r}")
    if isinstance(alpha, str) and alpha not in _ALPHA_MODES:
        raise ValueError(f"alpha must be one of {_ALPHA_MODES} or a number, got {alpha!r}")
    if not epsilon > 0:
        raise ValueError(f"epsilon must be positive, got {epsilon!r}")
    if not 0 <= drop_connect < 1:
        raise ValueError(f"drop_connect must be in [0, 1), got {drop_connect!r}")
    if per_unit and alpha not in ("learnable", "exponent"):
        raise ValueError(f"per_unit must come with a learnable alpha, got {alpha!r}")
    constant = not isinstance(alpha, str)
    attributes: dict[str, Any] = {
        "bias_mode": bias_mode,
        "alpha_mode": "constant" if constant else alpha,
        "per_unit": per_unit,
        "learnable_epsilon": learnable_epsilon,
        "spherical": spherical,
        "weight_normalized": weight_normalized,
        "drop_connect": drop_connect,
        "floor": floor,
    }
    if constant:
        attributes["alpha"] = alpha
    if not learnable_epsilon:
        attributes["epsilon"] = epsilon
    return attributes


def yat_parameters(
    units: int,
    *,
    alpha: Alpha = "learnable",
    per_unit: bool = False,
    offset: bool = False,
    epsilon: float = 1e-5,
    learnable_epsilon: bool = False,
    **_: Any,
) -> dict[str, tuple[tuple[int, ...], float]]:
    """Give the parameters that a Yat layer has beside weight and bias: name → shape and initial value.

    Args:
        units: number of output units.
        alpha: as for :func:`yat_attributes`, like all that follow.
        per_unit: whether alpha is one for each unit.
        offset: whether there is an output offset.
        epsilon: the value that a learnable epsilon starts from.
        learnable_epsilon: whether there is ``raw_epsilon``, of which epsilon is the softplus.
    """
    found: dict[str, tuple[tuple[int, ...], float]] = {}
    if alpha in ("learnable", "exponent"):
        found["alpha"] = ((units if per_unit else 1,), 1.0)
    if offset:
        found["offset"] = ((units,), 0.0)
    if learnable_epsilon:
        found["raw_epsilon"] = ((1,), _inverse_softplus(epsilon))
    return found


def set_up(layer: nn.Module, units: int, **options: Any) -> None:
    """Give a layer under construction its attributes and extra parameters."""
    for name, value in yat_attributes(**options).items():
        setattr(layer, name, value)
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    parameters = yat_parameters(units, **options)
    for name, (shape, value) in parameters.items():
        layer.register_parameter(name, nn.Parameter(weight.new_full(shape, value)))
    tolerate(layer, parameters)


def _inverse_softplus(value: float) -> float:
    """Give the number whose softplus is ``value``: log(eᵛ − 1), exact where v is small."""
    return float(torch.tensor(value, dtype=torch.float64).expm1().log())

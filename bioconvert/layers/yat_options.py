"""The options of every Yat layer: from the arguments that users give to what an instance holds.

A converted layer never ran a constructor: all that its forward needs are the attributes and parameters named
here, whichever way they came to the instance.
"""

from __future__ import annotations

import math
from typing import Any, Literal, TypedDict, get_args

import torch
from torch import nn

from bioconvert.functional.transposed import Taps
from bioconvert.functional.units import BiasMode
from bioconvert.layers.starting_values import inverse_softplus
from bioconvert.layers.tolerance import tolerate

Alpha = Literal["learnable", "exponent", "none"] | float
_ALPHA_MODES = ("learnable", "exponent", "none")


class YatOptions(TypedDict, total=False):
    """The keywords of every Yat layer; :class:`bioconvert.layers.YatLinear` says what they mean."""

    bias_mode: BiasMode
    alpha: Alpha
    per_unit: bool
    offset: bool
    epsilon: float
    learnable_epsilon: bool
    spherical: bool
    weight_normalized: bool
    drop_connect: float
    softplus_bias: bool
    scalar_bias: bool
    constant_bias: float | None
    freeze_kernel: bool
    mask: torch.Tensor | None
    kernel_bank: nn.Parameter | None


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
    softplus_bias: bool = False,
    scalar_bias: bool = False,
    constant_bias: float | None = None,
    freeze_kernel: bool = False,
    floor: float = 0.0,
    taps: Taps | None = None,
) -> dict[str, Any]:
    """Give the plain attributes of a Yat layer with these options.

    Args:
        bias_mode: ``"pre"`` or ``"post"``.
        alpha: ``"learnable"``, ``"exponent"``, ``"none"`` or a number.
        per_unit: whether alpha, and a learnable epsilon, are one for each unit.
        offset: whether there is an output offset; it shows in the parameters alone.
        epsilon: a positive number.
        learnable_epsilon: whether epsilon is a parameter, and no attribute.
        spherical: whether inputs and weights are brought to unit length.
        weight_normalized: whether weights are.
        drop_connect: probability that a weight is left out while training.
        softplus_bias: whether the softplus of the bias is used.
        scalar_bias: whether the mean of the bias is used by all units.
        constant_bias: a number used in place of the bias.
        freeze_kernel: whether the weight is not trained.
        floor: least squared distance, in units of the squared norms.
        taps: ``"contributing"`` or ``"kernel"``, for a transposed convolution; ``None`` for other layers.

    Raises:
        ValueError: an option is out of its bounds.
    """
    del offset
    _check_words(bias_mode, alpha, taps)
    _check_numbers(epsilon, drop_connect, floor, constant_bias)
    if per_unit and alpha not in ("learnable", "exponent") and not learnable_epsilon:
        raise ValueError(f"per_unit must come with a learnable alpha or epsilon, got alpha={alpha!r}")
    if constant_bias is not None and (softplus_bias or scalar_bias):
        raise ValueError(
            "constant_bias takes the bias's place: it can't go with softplus_bias or scalar_bias"
        )
    constant = not isinstance(alpha, str)
    attributes: dict[str, Any] = {
        "bias_mode": bias_mode,
        "alpha_mode": "constant" if constant else alpha,
        "per_unit": per_unit,
        "learnable_epsilon": learnable_epsilon,
        "spherical": spherical,
        "weight_normalized": weight_normalized,
        "drop_connect": drop_connect,
        "softplus_bias": softplus_bias,
        "scalar_bias": scalar_bias,
        "freeze_kernel": freeze_kernel,
        "floor": floor,
    }
    given = {
        "alpha": alpha if constant else None,
        "epsilon": None if learnable_epsilon else epsilon,
        "constant_bias": constant_bias,
        "taps": taps,
    }
    return attributes | {name: value for name, value in given.items() if value is not None}


def _check_words(bias_mode: object, alpha: object, taps: object) -> None:
    if bias_mode not in get_args(BiasMode):
        raise ValueError(f"bias_mode must be 'pre' or 'post', got {bias_mode!r}")
    if isinstance(alpha, str) and alpha not in _ALPHA_MODES:
        raise ValueError(f"alpha must be one of {_ALPHA_MODES} or a number, got {alpha!r}")
    if taps is not None and taps not in get_args(Taps):
        raise ValueError(f"taps must be 'contributing' or 'kernel', got {taps!r}")


def _check_numbers(epsilon: float, drop_connect: float, floor: float, constant_bias: float | None) -> None:
    if not epsilon > 0:
        raise ValueError(f"epsilon must be positive, got {epsilon!r}")
    if not 0 <= drop_connect < 1:
        raise ValueError(f"drop_connect must be in [0, 1), got {drop_connect!r}")
    if not 0 <= floor <= 1:
        raise ValueError(f"floor must be in [0, 1], got {floor!r}")
    if constant_bias is not None and not math.isfinite(constant_bias):
        raise ValueError(f"constant_bias must be finite, got {constant_bias!r}")


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
        per_unit: whether alpha and epsilon are one for each unit.
        offset: whether there is an output offset.
        epsilon: the value that a learnable epsilon starts from.
        learnable_epsilon: whether there is ``raw_epsilon``, of which epsilon is the softplus.
    """
    found: dict[str, tuple[tuple[int, ...], float]] = {}
    shape = (units if per_unit else 1,)
    if alpha in ("learnable", "exponent"):
        found["alpha"] = (shape, 1.0)
    if offset:
        found["offset"] = ((units,), 0.0)
    if learnable_epsilon:
        found["raw_epsilon"] = (shape, float(inverse_softplus(torch.tensor(epsilon, dtype=torch.float64))))
    return found


def set_up(
    layer: nn.Module,
    units: int,
    *,
    unit_dim: int = 0,
    mask: torch.Tensor | None = None,
    kernel_bank: nn.Parameter | None = None,
    **options: Any,
) -> None:
    """Give a layer under construction its attributes and extra tensors.

    Args:
        layer: the layer, as the constructor of its torch class left it.
        units: number of output units.
        unit_dim: the dimension of the weight that holds them.
        mask: what the weight is multiplied by.
        kernel_bank: the weight to use instead of the layer's own.
        **options: as for :func:`yat_attributes`.

    Raises:
        ValueError: an option is out of its bounds, or a tensor of another shape than it must have.
    """
    for name, value in yat_attributes(**options).items():
        setattr(layer, name, value)
    weight = layer.weight
    assert isinstance(weight, nn.Parameter)
    parameters = yat_parameters(units, **options)
    for name, (shape, value) in parameters.items():
        layer.register_parameter(name, nn.Parameter(weight.new_full(shape, value)))
    _set_up_bias(layer, options)
    if mask is not None:
        layer.register_buffer("mask", _checked_mask(mask, weight))
    if kernel_bank is not None:
        weight = _checked_bank(kernel_bank, weight, unit_dim)
        layer.register_parameter("weight", weight)
        vars(layer)["bank_size"] = weight.shape[unit_dim]
    if options.get("freeze_kernel"):
        weight.requires_grad_(False)
    tolerate(layer, [*parameters, *(["mask"] if mask is not None else [])])


def _set_up_bias(layer: nn.Module, options: dict[str, Any]) -> None:
    bias = layer._parameters.get("bias")
    for name in ("softplus_bias", "scalar_bias"):
        if options.get(name) and bias is None:
            raise ValueError(f"{name} must come with a bias, got bias=False")
    if options.get("scalar_bias") and bias is not None:
        layer.register_parameter("bias", nn.Parameter(bias.detach()[:1].clone()))


def _checked_mask(mask: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    if mask.shape != weight.shape:
        raise ValueError(f"mask must have the weight's shape {[*weight.shape]}, got {[*mask.shape]}")
    dtype = torch.bool if mask.dtype == torch.bool else weight.dtype
    return mask.detach().to(weight.device, dtype, copy=True)


def _checked_bank(bank: nn.Parameter, weight: torch.Tensor, unit_dim: int) -> nn.Parameter:
    if not isinstance(bank, nn.Parameter):
        raise ValueError(f"kernel_bank must be a Parameter, got a {type(bank).__name__}")
    own, given = [*weight.shape], [*bank.shape]
    fits = len(own) == len(given) and given[unit_dim] >= own[unit_dim]
    if not fits or own[:unit_dim] + own[unit_dim + 1 :] != given[:unit_dim] + given[unit_dim + 1 :]:
        wanted = [f">= {size}" if dim == unit_dim else str(size) for dim, size in enumerate(own)]
        raise ValueError(f"kernel_bank must have the shape [{', '.join(wanted)}], got {given}")
    return bank

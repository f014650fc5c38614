"""Layers that work with a parameter of their container: what a function's call on it amounts to."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from bioconvert.core.errors import Refused
from bioconvert.graph.redirect import Borrow
from bioconvert.graph.uses import Use

_CONVOLUTIONS = {"F.conv1d": nn.Conv1d, "F.conv2d": nn.Conv2d, "F.conv3d": nn.Conv3d}


def borrowing(container: nn.Module, parameter: str, use: Use) -> Borrow:
    """Say which layer a function's call on a parameter amounts to.

    Raises:
        Refused: it amounts to none, or its name is taken.
    """
    weight = container._parameters[parameter]
    assert weight is not None
    child = f"{parameter}_layer"
    if hasattr(container, child):
        raise Refused(f"{type(container).__name__} has a {child!r} of its own, where the new layer would be")
    return Borrow(parameter, child, use.bias, use.function, tuple(_made_with(weight, use).items()))


def _made_with(weight: torch.Tensor, use: Use) -> dict[str, Any]:
    if use.function in _CONVOLUTIONS:
        geometry = dict(use.geometry)
        if not isinstance(geometry["groups"], int):
            raise Refused("the arguments of its convolution are computed")
        channels = weight.shape[1] * geometry["groups"]
        sizes = {"in_channels": channels, "out_channels": weight.shape[0]}
        return {**sizes, "kernel_size": tuple(weight.shape[2:]), **geometry}
    if weight.dim() != 2:
        shape = " × ".join(map(str, weight.shape))
        raise Refused(f"a parameter of {shape} is no linear layer's weight")
    units, features = weight.shape if use.function == "F.linear" else reversed(weight.shape)
    return {"in_features": features, "out_features": units}


def new_layer(borrow: Borrow) -> nn.Module:
    """Make the layer, as yet without any parameter."""
    cls: Any = _CONVOLUTIONS.get(borrow.function, nn.Linear)
    arguments = {name: tuple(v) if isinstance(v, list) else v for name, v in borrow.made_with}
    layer: nn.Module = cls(**arguments, bias=bool(borrow.bias), device="meta")
    give_up(layer)
    return layer


def lend(layer: nn.Module, borrow: Borrow, container: nn.Module) -> None:
    """Let a layer hold its container's parameters as its own, while it isn't the container's child."""
    weight = borrow.weight_in(container)
    if borrow.transposed:
        weight = nn.Parameter(weight.detach().t(), weight.requires_grad)
    bias = container._parameters[borrow.bias] if borrow.bias else None
    held: dict[str, Any] = {"weight": weight, "bias": bias}
    layer._parameters = {**held, **layer._parameters}


def give_up(layer: nn.Module) -> None:
    """Let a layer hold its own parameters alone."""
    for name in ("weight", "bias"):
        layer._parameters.pop(name, None)

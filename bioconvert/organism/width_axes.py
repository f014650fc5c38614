"""The weights of layers seen by unit: what leads into each, and what leads out of it."""

from __future__ import annotations

import torch
from torch import nn

from bioconvert.core.families import family_root
from bioconvert.graph.receivers import has_units


def incoming(layer: nn.Module) -> torch.Tensor:
    """Give what leads into each unit of a layer: (units, …)."""
    weight = _weight(layer)
    return weight if has_units(layer) else weight.t()


def as_incoming_weight(layer: nn.Module, rows: torch.Tensor) -> torch.Tensor:
    """Give the weight of a layer from what leads into each unit."""
    return rows if has_units(layer) else rows.t()


def outgoing(receiver: nn.Module, units: int) -> torch.Tensor:
    """Give what leads from each unit to a receiver: (outputs, units, places).

    Places are those of a kernel, or of a picture that was made a row of.
    """
    weight = _weight(receiver)
    weight = weight if has_units(receiver) else weight.t()
    return weight.reshape(weight.shape[0], units, -1)


def as_outgoing_weight(receiver: nn.Module, columns: torch.Tensor) -> torch.Tensor:
    """Give the weight of a receiver from what leads from each unit to it."""
    if is_conv(receiver):
        return columns.reshape(*columns.shape[:2], *_weight(receiver).shape[2:])
    flat = columns.flatten(1)
    return flat if has_units(receiver) else flat.t()


def in_size(receiver: nn.Module) -> dict[str, int]:
    """Name the attributes of a receiver that tell the number of its inputs, from its weight."""
    weight = _weight(receiver)
    if is_conv(receiver):
        return {"in_channels": weight.shape[1]}
    return {"in_features": weight.shape[1]} if has_units(receiver) else {"nx": weight.shape[0]}


def out_size(layer: nn.Module, units: int) -> dict[str, int]:
    """Name the attributes of a layer that tell the number of its units."""
    if is_conv(layer):
        return {"out_channels": units}
    return {"out_features": units} if has_units(layer) else {"nf": units}


def unit_axis(layer: nn.Module) -> int:
    """Give the dimension of a layer's weight that counts its units."""
    return 0 if has_units(layer) else 1


def is_conv(layer: nn.Module) -> bool:
    """Say whether a layer is a convolution."""
    return family_root(type(layer), "conv") is not None


def _weight(layer: nn.Module) -> torch.Tensor:
    weight = layer._parameters["weight"]
    assert weight is not None
    return weight.detach()

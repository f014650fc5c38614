"""Weighs what a layer keeps for its backward."""

import torch
from torch import nn


def saved_bytes(layer: nn.Module, given: torch.Tensor) -> int:
    """Give the bytes of all memory kept for the backward, besides the input and the parameters.

    Memory that several saved tensors share counts once. Tensors that an autograd function keeps count too.
    """
    kept: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = layer(given)
    storages = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in kept}
    for known in (given, *layer.parameters()):
        storages.pop(known.untyped_storage().data_ptr(), None)
    del output
    return sum(storages.values())

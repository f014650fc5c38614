"""A module's own tensors by name, and the new ones that a recipe tells how to make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from bioconvert.core.change import TensorRecipe
from bioconvert.core.random import Stream


def made_tensor(
    module: nn.Module,
    name: str,
    recipe: TensorRecipe,
    stream: Stream,
    values: Mapping[str, torch.Tensor],
) -> torch.Tensor:
    """Make a module's new tensor.

    Args:
        module: the module.
        name: the tensor's name.
        recipe: how it arises.
        stream: the random numbers for it.
        values: values found from sample data, instead of the recipe's.
    """
    value = values.get(name)
    if value is None:
        value = recipe.make({each: read_tensor(module, each).detach() for each in recipe.reads}, stream)
    if recipe.like is None and recipe.kind == "buffer":
        return value.detach()
    like: torch.Tensor = read_tensor(module, recipe.like) if recipe.like else _any_weight(module)
    dtype = like.dtype if value.is_floating_point() else value.dtype
    value = value.detach().to(device=like.device, dtype=dtype)
    if recipe.kind == "buffer":
        return value
    return nn.Parameter(value, requires_grad=like.requires_grad)


def _any_weight(module: nn.Module) -> torch.Tensor:
    """Give a trained parameter within a module, or the one that stands for those it hasn't got."""
    found = (p for p in module.parameters() if p.is_floating_point())
    trained = next((p for p in found if p.requires_grad), None)
    return trained if trained is not None else nn.Parameter(torch.empty(0))


def read_tensor(module: nn.Module, name: str) -> torch.Tensor:
    """Give a tensor of a module's own, also one that a hook computes, as old-style weight_norm does."""
    tensor: torch.Tensor = own_tensor(module, name)
    return getattr(module, name) if tensor is None else tensor


def own_tensor(module: nn.Module, name: str) -> Any:
    """Give a module's own parameter or buffer, ``None`` if it has none of the name or none there."""
    return module._parameters.get(name, module._buffers.get(name))


def required(module: nn.Module, name: str) -> torch.Tensor:
    """Give a module's own parameter or buffer, which is there."""
    tensor: torch.Tensor = own_tensor(module, name)
    return tensor


def is_registered(module: nn.Module, name: str) -> bool:
    """Say whether a module knows the name, though it may have no tensor there."""
    return name in module._parameters or name in module._buffers

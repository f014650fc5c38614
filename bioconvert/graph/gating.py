"""Products in which the units of two layers meet one by one, as in gated perceptrons (SwiGLU)."""

from __future__ import annotations

import operator
from collections.abc import Callable

import torch
from torch import fx, nn

from bioconvert.core.families import family_root
from bioconvert.graph.nodes import activation_of, called_module

_PRODUCTS = (operator.mul, torch.mul, "mul")


def gated_with(
    value: fx.Node, user: fx.Node, container: nn.Module, takes: Callable[[nn.Module], bool]
) -> tuple[nn.Module, list[fx.Node]] | None:
    """Find the layer whose units a value's are multiplied by, behind activations.

    Args:
        value: the value, or a function of it.
        user: what takes it.
        container: the module in whose graph they are.
        takes: says of a module whether it is a layer.

    Returns:
        The layer and the nodes from it to the product; ``None`` where this isn't such a product.
    """
    if user.target not in _PRODUCTS or len(user.args) != 2:
        return None
    (other,) = [each for each in user.args if each is not value] or [None]
    met: list[fx.Node] = []
    while isinstance(other, fx.Node):
        met.append(other)
        module = called_module(other, container)
        if module is not None and takes(module):
            return module, met
        other = other.args[0] if other.args and activation_of(other, container) is not None else None
    return None


def are_alike(one: nn.Module, other: nn.Module) -> bool:
    """Say whether the units of two layers lie in the same dimension of what they give."""
    return family_root(type(one), "conv") is family_root(type(other), "conv")

"""Activations by the names of their module classes, in each of the ways a forward may call them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from bioconvert.core.change import Activation

FUNCTIONS: Mapping[str, tuple[Callable[..., Any], ...]] = {
    "ReLU": (F.relu, F.relu_, torch.relu, torch.relu_),
    "ReLU6": (F.relu6,),
    "LeakyReLU": (F.leaky_relu, F.leaky_relu_),
    "PReLU": (F.prelu, torch.prelu),
    "ELU": (F.elu, F.elu_),
    "CELU": (F.celu, F.celu_, torch.celu, torch.celu_),
    "SELU": (F.selu, F.selu_, torch.selu, torch.selu_),
    "GELU": (F.gelu,),
    "SiLU": (F.silu,),
    "Mish": (F.mish,),
    "Hardswish": (F.hardswish,),
    "Hardsigmoid": (F.hardsigmoid,),
    "Hardtanh": (F.hardtanh, F.hardtanh_),
    "Softplus": (F.softplus,),
    "Sigmoid": (F.sigmoid, torch.sigmoid, torch.sigmoid_),
    "Tanh": (F.tanh, torch.tanh, torch.tanh_),
    "BatchNorm1d": (F.batch_norm,),
    "BatchNorm2d": (F.batch_norm,),
    "BatchNorm3d": (F.batch_norm,),
    "LayerNorm": (F.layer_norm,),
    "GroupNorm": (F.group_norm,),
    "Dropout": (F.dropout,),
}
"""Functions that do what the module class of that name does."""

NORMS: tuple[str, ...] = ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "LayerNorm", "GroupNorm")
"""Names among them that normalise."""

METHODS: Mapping[str, tuple[str, ...]] = {
    "ReLU": ("relu", "relu_"),
    "Sigmoid": ("sigmoid", "sigmoid_"),
    "Tanh": ("tanh", "tanh_"),
}
"""Tensor methods that do what the module class of that name does."""

ACTIVATIONS: frozenset[str] = frozenset(
    name for name in FUNCTIONS if name not in NORMS and name != "Dropout"
) | {
    # The classes that transformers uses for its own activations.
    "GELUActivation",
    "NewGELUActivation",
    "FastGELUActivation",
    "QuickGELUActivation",
    "PytorchGELUTanh",
    "GELUTanh",
    "SiLUActivation",
    "ReLUSquaredActivation",
}
"""Names of classes that act on each element alone."""


def module_activation(module: torch.nn.Module, name: str) -> Activation:
    """Describe an activation that the model calls as a module."""
    return Activation(name, module)


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """A function that is called with fixed arguments; unlike a lambda it can be copied and kept on disk.

    Args:
        name: the activation's class name, which stands for the function.
        arguments: its arguments but for the first one.
    """

    name: str
    arguments: tuple[tuple[str, Any], ...] = ()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the function."""
        result: torch.Tensor = FUNCTIONS[self.name][0](x, **dict(self.arguments))
        return result


def function_activation(
    function: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Activation | None:
    """Describe an activation that the model calls as a function; ``None`` if its arguments are computed."""
    given = dict(kwargs)
    if args[1:]:
        names = _names(function)
        given |= dict(zip(names, args[1:], strict=False))
    fixed = {key: value for key, value in given.items() if key not in ("input", "inplace")}
    if any(isinstance(value, torch.fx.Node) for value in fixed.values()):
        return None
    return Activation(name, FunctionCall(name, tuple(fixed.items())))


def _names(function: Callable[..., Any]) -> list[str]:
    """Name a function's parameters but for the first; those of a builtin have no names to go by."""
    try:
        return list(inspect.signature(function).parameters)[1:]
    except ValueError:
        return ["weight"]


def method_activation(name: str) -> Activation:
    """Describe an activation that the model calls as a method of the tensor."""
    return Activation(name, FunctionCall(name))


def default_function(name: str) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """Give the function that an activation's name stands for, with its default arguments, if it is known."""
    return FUNCTIONS[name][0] if name in ACTIVATIONS and name in FUNCTIONS else None

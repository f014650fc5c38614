"""A live model with layers of nmn → the same objects, as layers of ours; nmn isn't imported for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any, TypeVar

import torch
from torch import nn

from bioconvert.compat.nmn.attention import NmnAttention
from bioconvert.compat.nmn.evidence import Finding
from bioconvert.compat.nmn.generations import Generation
from bioconvert.compat.nmn.kinds import UNSCALED_BEFORE, Kind, kind_named
from bioconvert.compat.nmn.layer import (
    Layer,
    alpha_factor,
    build_layer,
    describe,
    plain_size,
    tensors_of_ours,
)
from bioconvert.core.errors import ConversionError

Model = TypeVar("Model", bound=nn.Module)
_READ_FROM: Mapping[str, tuple[str, ...]] = {
    "constant_alpha": ("_constant_alpha_value", "constant_alpha"),
    "constant_bias": ("_constant_bias_value", "constant_bias"),
    "spherical": ("spherical", "_spherical"),
    "normalize_qk": ("_normalize_qk", "normalize_qk"),
    "out_channels": ("_actual_out_channels", "out_channels"),
}
"""Attributes that have an option's value, where it isn't the one of its name; the first one that is there."""


def from_module(model: Model) -> Model:
    """Make the layers of nmn in a live model into ours, on the same parameters.

    The objects stay, with their hooks, train flags and places: their class changes, and attributes with it.

    Args:
        model: the model, or a single layer.

    Returns:
        The same object.

    Raises:
        ConversionError: a layer of nmn is of no known class, or of one of the user's own that is derived from
            one; all are named, and the model is as it was.
    """
    found = dict(_layers_in(model))
    problems = [text for path, module in found.items() if (text := _obstacle(path, module))]
    if problems:
        raise ConversionError("\n  ".join(["layers of nmn that can't be read:", *problems]))
    made = {path: _ours(path, module) for path, module in found.items()}
    for path, module in found.items():
        _become(module, made[path])
    return model


def holds_nmn(model: nn.Module) -> bool:
    """Say whether a model has layers of nmn."""
    return any(True for _ in _layers_in(model))


def describe_module(model: nn.Module) -> tuple[Layer, ...]:
    """Describe the layers of nmn in a live model."""
    return tuple(_described(path, module)[0] for path, module in _layers_in(model))


def _layers_in(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for path, module in model.named_modules():
        if _base(module) is not None:
            yield path, module


def _base(module: nn.Module) -> type | None:
    """Give the class of nmn that a module is of, or is derived from."""
    for cls in type(module).__mro__:
        known = kind_named(cls.__name__) is not None
        if known and (cls.__module__ == "nmn.torch" or cls.__module__.startswith("nmn.torch.")):
            return cls
    return None


def _obstacle(path: str, module: nn.Module) -> str:
    base = _base(module)
    if base is not type(module) and base is not None:
        own = f"{type(module).__module__}.{type(module).__qualname__}"
        return f"{path or 'the model'}: {own} is derived from {base.__name__} and may compute something else"
    if "forward" in vars(module):
        return f"{path or 'the model'}: its forward is set on the instance"
    return ""


def _described(path: str, module: nn.Module) -> tuple[Layer, Kind, dict[str, torch.Tensor]]:
    kind = kind_named(type(module).__name__)
    assert kind is not None
    tensors = dict(module.state_dict(keep_vars=True))
    generation: Generation = "0.3" if "constant_alpha" in vars(module) else "0.1"
    untold = Finding(path, tensors, (kind,), certain=True).untold(kind, generation)
    options = {name: _option(module, name, default) for name, default in untold.items()}
    return describe(path, kind, generation, tensors, options), kind, tensors


def _option(module: nn.Module, name: str, default: object) -> object:
    if name == "drop_rate":
        return getattr(module, name, 0.0) if getattr(module, "use_dropconnect", False) else 0.0
    if name == "scaled":
        return _release() >= UNSCALED_BEFORE
    if name == "freeze_kernel":
        return not module.weight.requires_grad
    for attribute in _READ_FROM.get(name, (name,)):
        if attribute in vars(module):
            return plain_size(vars(module)[attribute])
    return default


def _release() -> tuple[int, ...]:
    """Give the installed release of nmn, of which live layers are."""
    return tuple(int(part) for part in version("nmn").split(".")[:3])


def _ours(path: str, module: nn.Module) -> nn.Module:
    """Build our layer on the tensors of one of nmn, Parameters as they are."""
    layer, kind, tensors = _described(path, module)
    made = build_layer(layer.becomes, layer.arguments, device="meta")
    if kind.family == "attention":
        made.__class__ = NmnAttention
    for name, tensor in tensors_of_ours(kind, tensors, alpha_factor(layer)).items():
        holder = made.get_submodule(name.rpartition(".")[0])
        _put(holder, name.rpartition(".")[2], tensor)
    return made


def _put(holder: nn.Module, name: str, tensor: torch.Tensor) -> None:
    if name in holder._buffers:
        holder._buffers[name] = tensor.detach()
    else:
        holder._parameters[name] = (
            tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor.detach())
        )


def _become(module: nn.Module, made: nn.Module) -> None:
    """Change a module's class and attributes; hooks and the train flag stay."""
    kept: dict[str, Any] = {
        name: value for name, value in vars(module).items() if "hook" in name or name == "training"
    }
    vars(module).clear()
    module.__class__ = type(made)
    vars(module).update({**vars(made), **kept})
    for child in module.children():
        child.train(module.training)

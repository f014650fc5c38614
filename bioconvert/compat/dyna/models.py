"""Models that are built from our layers where dyna's stood."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from bioconvert.compat.dyna.evidence import as_pairs
from bioconvert.compat.dyna.kinds import CONV_NAMES, PADDING_VALUE, STATIC_BIAS, defaults_of
from bioconvert.compat.dyna.layer import Layer
from bioconvert.core.errors import ArchitectureError
from bioconvert.layers.composed_conv2d import ComposedConv2d
from bioconvert.layers.tensor_composer import TensorComposer


def our_layers(model: nn.Module) -> Iterator[tuple[str, TensorComposer | ComposedConv2d]]:
    """Give the composers that stand alone and the convolutions of a model, by each of their names.

    Args:
        model: the model.
    """
    inside: set[str] = set()
    for path, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, ComposedConv2d):
            inside.add(f"{path}.weights_lib" if path else "weights_lib")
        if isinstance(module, (ComposedConv2d, TensorComposer)) and path not in inside:
            yield path, module


def prepare(state_dict: Mapping[str, torch.Tensor], model: nn.Module) -> dict[str, torch.Tensor]:
    """Bring a state dict with dyna's layers into the form that a model of our layers has.

    Args:
        state_dict: tensors by name.
        model: the model, whose composers and convolutions stand where dyna's stood.

    Returns:
        The tensors, to be loaded strictly: complex ones as pairs, without the padding values that no layer
        uses.

    Raises:
        ArchitectureError: the model has no such layer.
    """
    found = list(our_layers(model))
    if not found:
        raise ArchitectureError(
            f"the model ({type(model).__name__}) has no layer of bioconvert that stands for one of dyna: "
            "TensorComposerDelta, TensorComposerMobius, DynamicConv2dDelta or DynamicConv2dMobius"
        )
    own = {f"{path}.{name}" if path else name for path, module in found for name in module.state_dict()}
    unused = {name for path, module in found for name in _unused(path, module)}
    return {
        name: as_pairs(tensor) if name in own else tensor
        for name, tensor in state_dict.items()
        if name not in unused
    }


def describe(state_dict: Mapping[str, torch.Tensor], model: nn.Module) -> tuple[Layer, ...]:
    """Describe the layers of a model that stand for dyna's.

    Args:
        state_dict: tensors by dyna's names.
        model: the model.
    """
    return tuple(_described(path, module, state_dict) for path, module in our_layers(model))


def _described(
    path: str, module: TensorComposer | ComposedConv2d, state: Mapping[str, torch.Tensor]
) -> Layer:
    becomes = next(cls.__name__ for cls in type(module).__mro__ if cls.__module__.startswith("bioconvert."))
    unused = tuple(name.rpartition(".")[2] for name in _unused(path, module) if name in state)
    return Layer(path, becomes, _arguments(becomes, module), (), unused)


def _arguments(becomes: str, module: TensorComposer | ComposedConv2d) -> dict[str, Any]:
    """Give the arguments with which a layer is built again."""
    if isinstance(module, TensorComposer):
        options = asdict(module.composer)  # type: ignore[call-overload]
        # The temperature is learnt, and its first value is of no use any more.
        options.pop("temperature", None)
        sizes = {name: getattr(module, name) for name in ("context_length", "rows", "cols")}
        return {**sizes, **options}
    composer = _arguments(becomes, module.weights_lib)  # type: ignore[arg-type]
    options = {name: value for name, value in composer.items() if name not in ("rows", "cols")}
    sizes = {name: getattr(module, name) for name in ("in_channels", "out_channels")}
    own = {name: getattr(module, name) for name in defaults_of(becomes) if hasattr(module, name)}
    return {**sizes, **options, **own, **_flags(module)}


def _flags(module: ComposedConv2d) -> dict[str, Any]:
    tensors = {name: getattr(module, name, None) for name in CONV_NAMES}
    flags: dict[str, Any] = {"padding_dynamic": tensors[PADDING_VALUE] is not None}
    if hasattr(module, "offset_dynamic_value"):
        flags["offset_dynamic"] = tensors["offset_dynamic_value"] is not None
        flags["bias_dynamic"] = tensors["bias_dynamic_conv"] is not None
    constant = tensors[STATIC_BIAS]
    if constant is not None:
        flags["bias_static"] = float(constant)
    return flags


def _unused(path: str, module: nn.Module) -> Iterator[str]:
    """Name the padding value of a convolution that has no use for one."""
    if isinstance(module, ComposedConv2d) and module.padding_dynamic_value is None:
        unpadded = module.transpose or not any(module.padding)
        if unpadded:
            yield f"{path}.{PADDING_VALUE}" if path else PADDING_VALUE

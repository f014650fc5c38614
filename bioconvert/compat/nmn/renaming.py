"""A state dict of nmn's layers → the names that a model of our layers has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import nn

from bioconvert.compat.nmn.evidence import find_layers, names_of
from bioconvert.compat.nmn.generations import MEANINGS, Generation, check_generation
from bioconvert.compat.nmn.kinds import DEFAULTS, KINDS, Kind
from bioconvert.compat.nmn.layer import Layer, plain_size, tensors_of_ours
from bioconvert.compat.nmn.resolving import told_generation
from bioconvert.core.errors import ArchitectureError, OptionError


class _Modes(NamedTuple):
    """The options of our layers by which they are of a generation."""

    bias: str
    alpha: str
    no_alpha: tuple[str, ...]


_MODES: Mapping[Generation, _Modes] = {
    "0.1": _Modes("post", "exponent", ("learnable", "constant")),
    "0.3": _Modes("pre", "learnable", ("exponent",)),
}
_BECOMES: Mapping[str, Kind] = {kind.becomes: kind for kind in KINDS.values()}


def rename(
    state_dict: Mapping[str, torch.Tensor], model: nn.Module, *, generation: str | None = None
) -> dict[str, torch.Tensor]:
    """Give a state dict of nmn's layers the names and shapes of a model that is built from ours.

    The model says all that the tensors don't tell; what can be checked of it is.

    Args:
        state_dict: tensors by name.
        model: the model, whose Yat layers stand where nmn's stood.
        generation: ``"0.1"`` or ``"0.3"``; needed where the tensors don't tell it.

    Returns:
        The tensors, to be loaded strictly: names that have no place in the model are kept.

    Raises:
        OptionError: nothing tells the generation.
        ArchitectureError: the model has no Yat layer, or one that computes something else than that
            generation; all are named.
    """
    told = _generation(state_dict, generation)
    found = dict(our_layers(model))
    if not found:
        raise ArchitectureError(
            f"the model ({type(model).__name__}) has no Yat layer, neither ours nor nmn's"
        )
    problems = [text for path, module in found.items() for text in _differences(path, module, told)]
    if problems:
        raise ArchitectureError(
            "\n  ".join([f"the model doesn't compute what nmn's generation {told} did:", *problems])
        )
    renamed = dict(state_dict)
    for path, module in found.items():
        prefix = f"{path}." if path else ""
        kind = _kind_of(module)
        names = [prefix + name for name in names_of(kind) if prefix + name in state_dict]
        ours = tensors_of_ours(kind, {name[len(prefix) :]: renamed.pop(name) for name in names})
        renamed |= {prefix + name: tensor for name, tensor in ours.items()}
    return renamed


def describe_ours(
    state_dict: Mapping[str, torch.Tensor], model: nn.Module, *, generation: str | None = None
) -> tuple[Layer, ...]:
    """Describe the Yat layers of a model of ours as the layers of nmn in whose place they stand.

    Args:
        state_dict: tensors by nmn's names.
        model: the model.
        generation: as for :func:`rename`.
    """
    told = _generation(state_dict, generation)
    layers = []
    for path, module in our_layers(model):
        kind, own = _kind_of(module), vars(module)
        told_by_model = [name for name in DEFAULTS[told].get(kind.family, {}) if name in own]
        options = {name: plain_size(own[name]) for name in told_by_model if not name.startswith("out_")}
        layers.append(Layer(path, kind.name, told, options, type(module).__name__, {}))
    return tuple(layers)


def _generation(state_dict: Mapping[str, torch.Tensor], named: str | None) -> Generation:
    told = check_generation(named) or told_generation(find_layers(state_dict))
    if told is None:
        raise OptionError(f"say of which generation the checkpoint is, {MEANINGS}: both name tensors alike")
    return told


def our_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Give the Yat layers of a model, by each of their names."""
    for path, module in model.named_modules(remove_duplicate=False):
        if any(cls.__name__ in _BECOMES for cls in _our_classes(module)):
            yield path, module


def _our_classes(module: nn.Module) -> list[type]:
    return [cls for cls in type(module).__mro__ if cls.__module__.startswith("bioconvert.layers.")]


def _kind_of(module: nn.Module) -> Kind:
    return next(_BECOMES[cls.__name__] for cls in _our_classes(module) if cls.__name__ in _BECOMES)


def _differences(path: str, module: nn.Module, generation: Generation) -> Iterator[str]:
    """Say by which options a layer of ours is none of a generation."""
    own, name = vars(module), path or "the model itself"
    modes = _MODES[generation]
    if module._parameters.get("bias") is not None and own.get("bias_mode", modes.bias) != modes.bias:
        yield f"{name}: bias_mode must be {modes.bias!r}, but is {own['bias_mode']!r}"
    if own.get("alpha_mode") in modes.no_alpha:
        yield f"{name}: alpha must be {modes.alpha!r}, but is {own['alpha_mode']!r}"
    if own.get("taps", "kernel") != "kernel":
        yield f"{name}: taps must be 'kernel', but is {own['taps']!r}"

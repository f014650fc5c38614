"""The options of every dynamic layer: from the arguments that users give to what an instance holds.

A converted layer never ran a constructor: all that its forward needs are the attributes and parameters named
here, whichever way they came to the instance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, TypedDict, get_args

import torch
from torch import nn

from bioconvert.core.random import Stream
from bioconvert.core.suggest import hint
from bioconvert.layers.composer import Composer, ComposerTensor
from bioconvert.layers.composer_draws import constant, normal
from bioconvert.layers.composer_mixture import MixtureComposer
from bioconvert.layers.context_encoder import Channels
from bioconvert.layers.tensor_composer_delta import DeltaComposer
from bioconvert.layers.tensor_composer_mobius import MobiusComposer
from bioconvert.layers.tolerance import tolerate

COMPOSERS: dict[str, Any] = {"mixture": MixtureComposer, "delta": DeltaComposer, "mobius": MobiusComposer}
"""The classes of composers: here, and not looked up by name, for compilers to see through."""
OPTIONS = {name: tuple(field.name for field in fields(kind)) for name, kind in COMPOSERS.items()}
"""The names of each composer's own options, which are also those of a layer's attributes."""
_DEFAULTS: dict[str, dict[str, Any]] = {"delta": {"noise": 0.0, "rank_noise": 0.0}}
"""What is another default in a layer than in a composer by itself: a conversion must not add noise."""
_PREFIX = "composer_"
_CONTEXTS = ("self", "model_input", "argument")
_NODE = "node:"


class DynamicOptions(TypedDict, total=False):
    """The keywords of every dynamic layer; :class:`bioconvert.layers.DynamicLinear` says what they mean."""

    composer: str
    context: str
    context_length: int
    context_features: int | None
    channels: Channels
    gate: float
    kernels: int
    temperature: float
    rank: int
    repulsion: float
    noise: float
    rank_noise: float
    similarity: float
    n_subspaces: int
    rank_subspace: int
    rank_transformations: int
    asymmetry: float


def dynamic_attributes(
    *,
    composer: str = "mixture",
    context: str = "self",
    context_length: int = 16,
    context_features: int | None = None,
    channels: Channels = "auto",
    gate: float = 0.0,
    **options: Any,
) -> dict[str, Any]:
    """Give the plain attributes of a dynamic layer with these options.

    Args:
        composer: what makes weights out of a context, by name.
        context: ``"self"``, ``"model_input"``, ``"argument"`` or ``"node:<name>"``.
        context_length: size of a context.
        context_features: width of the layer's own encoder; it shows in the parameters alone.
        channels: where a context's source has its channels.
        gate: what the gate starts from.
        **options: the composer's own.

    Raises:
        ValueError: an option is unknown or out of its bounds.
    """
    del context_features
    _check_words(composer, context, channels)
    if context_length < 1:
        raise ValueError(f"context_length must be positive, got {context_length!r}")
    if not math.isfinite(gate):
        raise ValueError(f"gate must be finite, got {gate!r}")
    for option in options:
        if option not in OPTIONS[composer]:
            raise ValueError(
                f"composer {composer!r} has no option {option!r}. {hint(option, OPTIONS[composer])}"
            )
    made = COMPOSERS[composer](**{**_DEFAULTS.get(composer, {}), **options})
    return {
        "composer": composer,
        "context": context,
        "context_length": context_length,
        "channels": channels,
        "initial_gate": gate,
        **{option: getattr(made, option) for option in OPTIONS[composer]},
    }


def _check_words(composer: str, context: str, channels: str) -> None:
    if composer not in COMPOSERS:
        raise ValueError(f"there is no composer named {composer!r}. {hint(composer, COMPOSERS)}")
    if context not in _CONTEXTS and not (context.startswith(_NODE) and context != _NODE):
        raise ValueError(f"context must be one of {_CONTEXTS} or 'node:<name>', got {context!r}")
    if channels not in get_args(Channels):
        raise ValueError(f"channels must be one of {get_args(Channels)}, got {channels!r}")


def dynamic_tensors(
    weight_shape: Sequence[int],
    out_channels: int,
    in_channels: int,
    *,
    context: str = "self",
    context_length: int = 16,
    context_features: int | None = None,
    gate: float = 0.0,
    **options: Any,
) -> dict[str, ComposerTensor]:
    """Describe the parameters that a dynamic layer has beside weight and bias.

    Args:
        weight_shape: shape of the layer's weight.
        out_channels: number of its output channels.
        in_channels: number of its input channels, which the encoder of ``context="self"`` reads.
        context: as for :func:`dynamic_attributes`, like all that follow.
        context_length: size of a context.
        context_features: width of the layer's own encoder; ``None`` for none, but with ``"self"``.
        gate: what the gate starts from.
        **options: as for :func:`dynamic_attributes`.

    Raises:
        ValueError: an option is unknown or out of its bounds.
    """
    given = {"context": context, "context_length": context_length, "gate": gate, **options}
    attributes = dynamic_attributes(**given)
    if context_features is None and context == "self":
        context_features = in_channels
    found = {"gate": constant((out_channels,), gate)}
    if context_features is not None:
        encoder = encoder_tensors(context_length, context_features)
        found.update({f"context_{name}": tensor for name, tensor in encoder.items()})
    made = composer_of(attributes)
    for name, tensor in made.tensors(*matrix_shape(weight_shape), context_length).items():
        found[f"{_PREFIX}{name}"] = tensor
    return found


def encoder_tensors(context_length: int, features: int) -> dict[str, ComposerTensor]:
    """Describe the weight and the bias of an encoder of contexts.

    Args:
        context_length: size of a context.
        features: width of what it is made of.

    Raises:
        ValueError: it has no width.
    """
    if features < 1:
        raise ValueError(f"context_features must be positive, got {features!r}")
    return {
        "weight": normal((context_length, features), features**-0.5),
        "bias": constant((context_length,), 0.0),
    }


def composer_of(attributes: dict[str, Any]) -> Composer:
    """Give the composer that a layer's attributes describe."""
    name = attributes["composer"]
    composer: Composer = COMPOSERS[name](**{option: attributes[option] for option in OPTIONS[name]})
    return composer


def composer_tensors(parameters: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Give a layer's tensors that its composer reads, under the composer's names."""
    return {name[len(_PREFIX) :]: held for name, held in parameters.items() if name.startswith(_PREFIX)}


def matrix_shape(weight_shape: Sequence[int]) -> tuple[int, int]:
    """Give the rows and columns of a weight as a matrix: its first dimension, and all others."""
    return weight_shape[0], math.prod(weight_shape[1:])


def set_up(layer: nn.Module, out_channels: int, in_channels: int, **options: Any) -> None:
    """Give a layer under construction its attributes and parameters, drawn from torch's generator.

    Args:
        layer: the layer, as the constructor of its torch class left it.
        out_channels: number of its output channels.
        in_channels: number of its input channels.
        **options: as for :func:`dynamic_attributes`.

    Raises:
        ValueError: an option is unknown or out of its bounds.
    """
    for name, value in dynamic_attributes(**options).items():
        setattr(layer, name, value)
    weight = layer.weight
    assert isinstance(weight, nn.Parameter)
    tensors = dynamic_tensors(weight.shape, out_channels, in_channels, **options)
    stream = Stream(drawn_seed(), "")
    for name, tensor in tensors.items():
        made = tensor.parameter(stream, name, device=weight.device, dtype=weight.dtype)
        layer.register_parameter(name, made)
    tolerate(layer, tensors)


def drawn_seed() -> int:
    """Draw a seed from torch's global generator, so that ``torch.manual_seed`` decides what follows."""
    return int(torch.randint(2**62, ()).item())

"""What every dynamic layer shares, over the linear map that it has from its torch class."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, NamedTuple

import torch
from torch import fx, nn

from bioconvert.core.random import Stream
from bioconvert.functional.dynamic_linear import mixed_linear, mixes_outputs
from bioconvert.functional.eager import is_recorded, wants_plain_operations
from bioconvert.functional.gated_product import gated_product
from bioconvert.functional.sample_maps import SampleMap
from bioconvert.functional.sample_matrix import Matrix
from bioconvert.layers.composer_mixture import MixtureComposer
from bioconvert.layers.context import carried
from bioconvert.layers.context_encoder import Channels, encoded
from bioconvert.layers.dynamic_options import (
    OPTIONS,
    composer_of,
    composer_tensors,
    drawn_seed,
    dynamic_attributes,
    dynamic_tensors,
    matrix_shape,
)
from bioconvert.layers.gate_state import is_closed

# A leaf in a user's own symbolic_trace: what is inside looks at sizes, which a trace doesn't know.
fx.wrap("dynamic_product")

_OWN = ("composer", "context", "context_length")
"""The attributes that every layer's ``repr`` shows, before those of the composer that differ."""


class Dynamics(NamedTuple):
    """How a layer makes its weights, in plain values.

    Args:
        attributes: the composer's name and options, as :func:`dynamic_attributes` gives them.
        context_length: size of a context.
        training: whether the layer is in training.
    """

    attributes: dict[str, Any]
    context_length: int
    training: bool


class DynamicLayer(nn.Module):
    """The options and parameters of a dynamic layer.

    A mixin, to stand before the torch class that holds weight and bias. It needs nothing but attributes and
    parameters (see :mod:`bioconvert.layers.dynamic_options`), so that an existing layer becomes a dynamic
    layer by a change of its class.
    """

    composer: str
    context: str
    context_length: int
    channels: Channels = "auto"
    initial_gate: float = 0.0
    gate: nn.Parameter
    carries_synapses = ("weight",)
    """What plasticity works on unless a rule names another parameter."""

    @property
    @abstractmethod
    def _sizes(self) -> tuple[int, int]:
        """The numbers of output and input channels."""

    def _product(
        self,
        how: SampleMap,
        input: torch.Tensor,
        context: torch.Tensor | None,
        *,
        source: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Let the weights that the context makes act on inputs; ``source`` is these before padding."""
        if context is None and self.context != "self":
            context = self._carried()
        names = ("composer", *OPTIONS[self.composer])
        attributes = {name: getattr(self, name) for name in names}
        held = {name: getattr(self, name) for name in ("weight", "bias", *self._parameters)}
        parameters = {name: tensor for name, tensor in held.items() if tensor is not None}
        dynamics = Dynamics(attributes, self.context_length, self.training)
        source = input if source is None else source
        return dynamic_product(how, input, source, context, parameters, dynamics)

    def _carried(self) -> torch.Tensor:
        """Give the context that the model has for this layer; zeros where it is an argument left out."""
        if "context_weight" not in self._parameters:
            found = carried(self.context, self, length=self.context_length)
        else:
            found = carried(self.context, self)
            if found is not None:
                weight, bias = self.context_weight, self.context_bias
                return encoded(found, weight, bias, self.channels)  # type: ignore[arg-type]
        return self.gate.new_zeros(1, self.context_length) if found is None else found

    def _dynamic_options(self) -> dict[str, Any]:
        """Give the options that the layer was made with."""
        names = (*_OWN, "channels", *OPTIONS[self.composer])
        features = self._parameters.get("context_weight")
        return {
            **{name: getattr(self, name) for name in names},
            "context_features": None if features is None else features.shape[1],
            "gate": self.initial_gate,
        }

    def reset_parameters(self) -> None:
        """Draw all parameters anew, from torch's generator."""
        super().reset_parameters()  # type: ignore[misc]
        if "gate" not in self._parameters:
            return  # called by the torch class's constructor
        weight: torch.Tensor = self.weight  # type: ignore[assignment]
        stream = Stream(drawn_seed(), "")
        tensors = dynamic_tensors(weight.shape, *self._sizes, **self._dynamic_options())
        with torch.no_grad():
            for name, tensor in tensors.items():
                held = self._parameters[name]
                if held is not None and not held.is_meta:
                    held.copy_(tensor.draw(stream, name))

    def extra_repr(self) -> str:
        """Show the torch layer's options, the three that say what the layer is, and others if changed."""
        defaults = dynamic_attributes(composer=self.composer)
        shown = [f"{name}={getattr(self, name)}" for name in _OWN]
        for name in ("channels", *OPTIONS[self.composer]):
            if getattr(self, name) != defaults[name]:
                shown.append(f"{name}={getattr(self, name)}")
        return ", ".join((super().extra_repr(), *shown))


def dynamic_product(
    how: SampleMap,
    x: torch.Tensor,
    source: torch.Tensor,
    context: torch.Tensor | None,
    parameters: dict[str, torch.Tensor],
    dynamics: Dynamics,
) -> torch.Tensor:
    """Make the weights of a layer and let them act on a batch of inputs, or on one without it.

    Args:
        how: what a weight does to an input.
        x: the input.
        source: what the layer's encoder makes a context of where none is given.
        context: [M, L], with M a divisor of the batch.
        parameters: the layer's parameters, by name.
        dynamics: how the layer makes its weights.
    """
    how, single = how.for_input(x, parameters["weight"])
    if single:
        x, source = x.unsqueeze(0), source.unsqueeze(0)
    y = _batch_product(how, x, source, context, parameters, dynamics)
    return y.squeeze(0) if single else y


def _batch_product(
    how: SampleMap,
    x: torch.Tensor,
    source: torch.Tensor,
    context: torch.Tensor | None,
    parameters: dict[str, torch.Tensor],
    dynamics: Dynamics,
) -> torch.Tensor:
    weight, bias, gate = parameters["weight"], parameters.get("bias"), parameters["gate"]
    if context is not None:
        context = _checked(context, dynamics.context_length).to(weight.dtype)
    closed = _is_closed(x, parameters)
    if closed and not _learns(parameters):
        return how.plain(x, weight, bias)
    if context is None:
        encoder = parameters["context_weight"], parameters["context_bias"]
        context = encoded(source, *encoder, how.channels)
    composer, tensors = composer_of(dynamics.attributes), composer_tensors(parameters)
    if isinstance(composer, MixtureComposer) and _mixes_outputs(how, x, context, composer.kernels):
        mixed = mixed_linear(x, tensors["kernels"], composer.shares(context, tensors))
        y = how.plain(x, weight, bias)
        return y + (gate * mixed).to(y.dtype)
    if isinstance(composer, MixtureComposer) and not closed and context.shape[0] != 1:
        weights = composer.added(context, tensors, weight, how.spread_gate(gate, weight))
        return how.varied(x, weights, bias)
    rows, cols = matrix_shape(weight.shape)
    delta = composer.compose(context, tensors, rows, cols, training=dynamics.training)
    return gated_product(how, x, weight, bias, gate, delta.view(-1, *weight.shape), closed=closed)


def _is_closed(x: torch.Tensor, parameters: dict[str, torch.Tensor]) -> bool:
    """Say whether the gate is zero, in a mode of computation in which that may be looked at."""
    recorded = is_recorded() or wants_plain_operations((x, *parameters.values()))
    return not recorded and is_closed(parameters["gate"])


def _mixes_outputs(how: SampleMap, x: torch.Tensor, context: torch.Tensor, kernels: int) -> bool:
    """Say whether a linear layer has so few positions for each context that mixing outputs costs less."""
    if not isinstance(how, Matrix) or context.shape[0] != x.shape[0]:
        return False
    return mixes_outputs(math.prod(x.shape[1:-1]), kernels)


def _checked(context: torch.Tensor, length: int) -> torch.Tensor:
    """Bring a context into the form of a batch.

    Raises:
        ValueError: it is of another size than the layer's contexts are.
    """
    context = context.unsqueeze(0) if context.dim() == 1 else context
    if context.dim() != 2 or context.shape[1] != length:
        raise ValueError(f"context must have the shape [samples, {length}], got {[*context.shape]}")
    return context


def _learns(parameters: dict[str, torch.Tensor]) -> bool:
    """Say whether a gradient is asked of anything but weight and bias."""
    added = (held for name, held in parameters.items() if name not in ("weight", "bias"))
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in added)

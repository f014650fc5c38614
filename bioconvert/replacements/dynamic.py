"""Linear and convolution layers get weights that are made anew for each sample, from a context."""

from __future__ import annotations

from collections.abc import Mapping
from math import log2, prod
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from bioconvert import layers
from bioconvert.core.change import Change, Site
from bioconvert.core.errors import OptionError
from bioconvert.core.registry import replacement
from bioconvert.replacements.added import drawn
from bioconvert.replacements.context_wiring import (
    Encoder,
    checked_source,
    encoder_for,
    features_of,
    wiring,
)

if TYPE_CHECKING:
    from torch import nn

    from bioconvert.layers.composer import ComposerTensor


_MANY = 8
"""Added numbers for each weight from which on the plan warns."""
Count = Annotated[int, Field(gt=0)]
Size = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


@replacement("DynamicLinear", of="torch.nn.Linear")
@replacement("DynamicConv1d", of="torch.nn.Conv1d")
@replacement("DynamicConv2d", of="torch.nn.Conv2d")
@replacement("DynamicConv3d", of="torch.nn.Conv3d")
@replacement("DynamicConvTranspose1d", of="torch.nn.ConvTranspose1d")
@replacement("DynamicConvTranspose2d", of="torch.nn.ConvTranspose2d")
@replacement("DynamicConvTranspose3d", of="torch.nn.ConvTranspose3d")
def dynamic(
    layer: Any,
    site: Site,
    *,
    composer: Literal["mixture", "delta", "mobius"] = "mixture",
    context: str = "self",
    context_length: Count = 16,
    encoder: Encoder = "auto",
    channels: Literal["auto", "first", "last"] = "auto",
    gate: Finite = 0.0,
    kernels: Count | None = None,
    temperature: Annotated[float, Field(gt=0)] | None = None,
    rank: Count | None = None,
    repulsion: Size | None = None,
    similarity: Size | None = None,
    n_subspaces: Count | None = None,
    rank_subspace: Count | None = None,
    rank_transformations: Count | None = None,
) -> Change:
    r"""Turn a layer into the dynamic layer of its kind: :math:`W_n = W_0 + g \odot \Delta W(c_n)`.

    Its weight :math:`W_0` and its bias stay. With the gate :math:`g = 0` it computes bit for bit what it did;
    the gate gets the first gradient, and what makes :math:`\Delta W` the second.

    Args:
        layer: a Linear, Conv or ConvTranspose of up to three dimensions.
        site: where it stands.
        composer: what makes :math:`\Delta W` of a context :math:`c_n`: a mixture of kernels, complex banks
            that are bent towards each other (delta), or products of two complex spaces (mobius).
        context: what the context is made of: the layer's own input (``self``), the input of the model
            (``model_input``), the output of another module (``node:NAME``), or a keyword ``context`` that the
            model's forward takes from now on (``argument``).
        context_length: how many numbers the context has.
        encoder: which small encoder makes the context of its source: one in the layer, one in the model that
            all layers with this source share, or none. By default an argument is taken as it is, of shape [N,
            context_length] or [1, context_length], and any other source has an encoder in the layer.
        channels: whether the source has its features behind the batch or last.
        gate: what the gate starts from.
        kernels: number of kernels of a mixture.
        temperature: of the softmax that weighs kernels or ranks.
        rank: number of ranks of delta.
        repulsion: how strongly delta's ranks are kept apart.
        similarity: the strength of delta's penalty on ranks that are alike.
        n_subspaces: number of products of mobius.
        rank_subspace: rank of each of them.
        rank_transformations: number of control points by which the spaces are scaled.

    Raises:
        Refused: the context can't be had here.
        OptionError: an option is none of the composer's.
    """
    given = {
        "kernels": kernels,
        "temperature": temperature,
        "rank": rank,
        "repulsion": repulsion,
        "similarity": similarity,
        "n_subspaces": n_subspaces,
        "rank_subspace": rank_subspace,
        "rank_transformations": rank_transformations,
    }
    checked_source(layer, context, site)
    own = encoder_for(context, encoder)
    units, inputs = _sizes(layer)
    features = features_of(context, site, inputs, context_length)
    options: dict[str, Any] = {
        "composer": composer,
        "context": context,
        "context_length": context_length,
        "channels": channels,
        "gate": gate,
        **{name: value for name, value in given.items() if value is not None},
    }
    try:
        attributes = layers.dynamic_attributes(**options)
        width = features if own == "layer" else None
        tensors = layers.dynamic_tensors(layer.weight.shape, units, inputs, context_features=width, **options)
    except ValueError as error:
        raise OptionError(str(error)) from error
    return Change(
        into=_becomes(type(layer)),
        attributes=attributes,
        adds={name: drawn(name, tensor) for name, tensor in tensors.items()},
        elsewhere=wiring(context, site, length=context_length, encoder=own, features=features),
        summary=_summary(composer, context, own, gate),
        warnings=_size(composer, layer, tensors),
    )


def _sizes(layer: Any) -> tuple[int, int]:
    """Give the numbers of features that a layer gives and takes."""
    if hasattr(layer, "out_features"):
        return layer.out_features, layer.in_features
    return layer.out_channels, layer.in_channels


def _becomes(cls: type) -> type[nn.Module]:
    """Give the dynamic class of the nearest ancestor in torch."""
    name = next(each.__name__ for each in cls.__mro__ if each.__module__.startswith("torch.nn."))
    found: type[nn.Module] = getattr(layers, f"Dynamic{name}")
    return found


def _size(composer: str, layer: Any, tensors: Mapping[str, ComposerTensor]) -> tuple[str, ...]:
    """Warn of a layer that becomes much bigger than it was."""
    times = sum(prod(tensor.shape) for tensor in tensors.values()) / layer.weight.numel()
    if times < _MANY:
        return ()
    least = 2 ** int(log2(times))  # alike for layers that hardly differ, so that they share a line
    return (f"`composer: {composer}` adds {least} numbers and more for each weight",)


def _summary(composer: str, context: str, encoder: Encoder, gate: float) -> str:
    source = {"self": "its own input", "model_input": "the model's input", "argument": "an argument"}
    words = f"{composer} by {source.get(context, context.removeprefix('node:'))}"
    if encoder == "model":
        words += ", encoded by the model"
    return words if gate else f"{words}; gate 0, the same output"

"""What becomes of the model, and of the module it is taken from, so that a layer gets its context."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from bioconvert import layers
from bioconvert.core.change import Change, Hook, Site, TensorRecipe
from bioconvert.core.errors import Refused
from bioconvert.core.suggest import hint
from bioconvert.replacements.added import drawn

if TYPE_CHECKING:
    from torch import nn

Encoder = Literal["auto", "layer", "model", "none"]
_SELF, _INPUT, _ARGUMENT, _NODE = "self", "model_input", "argument", "node:"
_WIDTHS = ("out_channels", "out_features", "embedding_dim", "num_features", "num_channels")


def encoder_for(source: str, wished: Encoder) -> Encoder:
    """Give whose encoder a context goes through: none for an argument, the layer's own otherwise, by default.

    Raises:
        Refused: it can't go through the one wished for.
    """
    if wished == "auto":
        return "none" if source == _ARGUMENT else "layer"
    if wished == "model" and source == _SELF:
        raise Refused("the layer encodes its own input: `encoder: model` is for a context from elsewhere")
    if wished == "none" and source != _ARGUMENT:
        raise Refused("`encoder: none` is for `context: argument`, given as wide as `context_length`")
    return wished


def checked_source(layer: nn.Module, source: str, site: Site) -> None:
    """Refuse a context that the layer can't get.

    Raises:
        Refused: it is the output of no module, or of one that ends after the layer.
    """
    if source in (_SELF, _INPUT, _ARGUMENT):
        return
    name = source.removeprefix(_NODE)
    modules = _modules(site)
    if not source.startswith(_NODE) or name not in modules:
        known = [_SELF, _INPUT, _ARGUMENT, *(_NODE + each for each in modules if each)]
        raise Refused(f"there is no context {source!r}. {hint(source, known)}")
    if any(inside is layer for inside in modules[name].modules()):
        raise Refused(
            f"{repr(name) if name else 'the model'} gives its output after this layer, which is inside of it"
        )


def features_of(source: str, site: Site, own: int, length: int) -> int:
    """Guess how wide a context is before it is encoded: encoders take any width, and lose nothing of this.

    Args:
        source: where it comes from.
        site: where the layer stands.
        own: number of features that the layer takes in.
        length: how wide it is afterwards.
    """
    if source == _SELF:
        return own
    modules = _modules(site)
    if source == _INPUT:
        widths: Iterator[int] = (width for m in modules.values() if (width := _taken_in(m)) is not None)
    else:
        within = list(modules[source.removeprefix(_NODE)].modules()) if source.startswith(_NODE) else []
        widths = (width for m in reversed(within) if (width := _given(m)) is not None)
    return next(widths, 4 * length)


def _taken_in(module: nn.Module) -> int | None:
    if not hasattr(module, "weight"):
        return None
    width = getattr(module, "in_channels", getattr(module, "in_features", None))
    return width if isinstance(width, int) and width > 0 else None


def _given(module: nn.Module) -> int | None:
    found = (getattr(module, name, None) for name in _WIDTHS)
    return next((width for width in found if isinstance(width, int) and width > 0), None)


def wiring(source: str, site: Site, *, length: int, encoder: Encoder, features: int) -> dict[str, Change]:
    """Say what becomes of other modules so that a layer gets its context.

    Args:
        source: ``"self"``, ``"model_input"``, ``"argument"`` or ``"node:<name>"``.
        site: where the layer stands.
        length: the width of an encoded context.
        encoder: whose encoder it goes through.
        features: the width of the context before.

    Raises:
        Refused: the model's forward has an argument of that name already.
    """
    if source == _SELF:
        return {}
    model = _modules(site)[""]
    hooks, into, adds, summary = [Hook(layers.OpenFrame)], None, {}, "passes an output on"
    elsewhere: dict[str, Change] = {}
    if source == _INPUT:
        hooks.append(Hook(layers.CarryInput))
        summary = "gives its input as a context"
    elif source == _ARGUMENT:
        if layers.takes_keyword(type(model)) and not issubclass(type(model), layers.TakesContext):
            raise Refused("the model's forward has an argument `context` of its own")
        into = layers.TakesContext
        hooks.append(Hook(layers.CarryArgument, {"name": "context"}))
        summary = "takes an argument `context`"
    else:
        hooks.append(Hook(layers.OfferOutput, {"source": source}))
        name = source.removeprefix(_NODE)
        carry = Hook(layers.CarryOutput, {"source": source}, "after")
        elsewhere[name] = Change(hooks=(carry,), summary="gives its output as a context")
    if encoder == "model":
        own = re.sub(r"\W+", "_", f"context_{source}_{length}")
        options: dict[str, Any] = {"weight": f"{own}_weight", "bias": f"{own}_bias"}
        hooks.append(Hook(layers.CarryEncoder, {"source": source, "length": length, **options}))
        adds = _encoder(own, length, features)
    hooks.append(Hook(layers.CloseFrame, when="after"))
    return {"": Change(into=into, adds=adds, hooks=tuple(hooks), summary=summary), **elsewhere}


def _modules(site: Site) -> Mapping[str, Any]:
    graphs: Any = site.graphs
    found: Mapping[str, Any] = graphs.tree.by_name
    return found


def _encoder(name: str, length: int, features: int) -> dict[str, TensorRecipe]:
    tensors = layers.encoder_tensors(length, features)
    return {f"{name}_{part}": drawn(f"{name}_{part}", tensor, like=None) for part, tensor in tensors.items()}

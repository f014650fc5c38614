"""One layer of nmn: what it was, and our layer that computes the same."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from bioconvert import layers
from bioconvert.compat.nmn.generations import Generation
from bioconvert.compat.nmn.kinds import OUR_CLASSES, PROJECTIONS, Kind
from bioconvert.core.errors import ArchitectureError
from bioconvert.core.suggest import hint

Tensors = Mapping[str, torch.Tensor]
_log = logging.getLogger("bioconvert")
_SPHERICAL = (
    "%s: a spherical attention of nmn divides q and k by √(‖q‖² + ε), ours by ‖q‖: they differ by ε/‖q‖²"
)
_SQRT2 = math.sqrt(2)
"""What nmn takes for a constant alpha that is just said to be constant."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of nmn and what it becomes.

    Args:
        path: its name in the model; empty for the model itself.
        kind: nmn's class, by its name in the second generation.
        generation: what it computes.
        options: nmn's constructor options that its tensors don't tell.
        becomes: our class.
        arguments: our constructor's arguments, as JSON can hold them: ``mask`` and ``kernel_bank`` are the
            shape of theirs.
    """

    path: str
    kind: str
    generation: Generation
    options: Mapping[str, object]
    becomes: str
    arguments: Mapping[str, Any]

    def build(self) -> nn.Module:
        """Build our layer, with fresh values."""
        return build_layer(self.becomes, self.arguments)


def build_layer(becomes: str, arguments: Mapping[str, Any], device: str = "cpu") -> nn.Module:
    """Build one of our layers from its class name and arguments that JSON can hold.

    Raises:
        ArchitectureError: nothing of nmn becomes that class.
    """
    if becomes not in OUR_CLASSES:
        raise ArchitectureError(f"there is no layer {becomes!r}. {hint(becomes, OUR_CLASSES)}")
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in arguments.items()}
    if "mask" in given:
        given["mask"] = torch.ones(given["mask"])
    if "kernel_bank" in given:
        given["kernel_bank"] = nn.Parameter(torch.empty(given["kernel_bank"], device=device))
    module: nn.Module = getattr(layers, becomes)(**given, device=device)
    return module


def describe(
    path: str, kind: Kind, generation: Generation, tensors: Tensors, options: Mapping[str, object]
) -> Layer:
    """Say which layer of ours computes what a layer of nmn does.

    Args:
        path: its name.
        kind: its class.
        generation: its generation.
        tensors: its tensors by their own names there.
        options: all constructor options that these don't tell.
    """
    if kind.family == "attention" and options["spherical"]:
        _log.warning(_SPHERICAL, path or "the model itself")
    sizes = {
        "linear": _linear,
        "conv": _conv,
        "transposed": _transposed,
        "embedding": _embedding,
        "attention": _attention,
    }[kind.family](tensors, options)
    arguments = {**sizes, "alpha": _alpha(generation, tensors, options)}
    if "epsilon" in options:
        arguments["epsilon"] = options["epsilon"]
    if kind.family in ("linear", "conv", "transposed"):
        units = sizes["out_features" if kind.family == "linear" else "out_channels"]
        arguments |= _shared(generation, tensors, options, units)
    layer = Layer(path, kind.name, generation, dict(options), kind.becomes, arguments)
    factor = alpha_factor(layer)
    if factor == 1 or arguments["alpha"] == "learnable":
        return layer
    constant = 1.0 if arguments["alpha"] == "none" else arguments["alpha"]
    return replace(layer, arguments={**arguments, "alpha": constant * factor})


def tensors_of_ours(kind: Kind, tensors: Tensors, factor: float = 1.0) -> dict[str, torch.Tensor]:
    """Give the tensors of a layer of nmn by our names, in our shapes; an attention's alpha times a factor."""
    if kind.family == "attention":
        return _attention_tensors(tensors, factor)
    found = {kind.renamed.get(name, name): tensor for name, tensor in tensors.items()}
    if "mask" in found and "weight" in found:
        found["mask"] = found["mask"].expand_as(found["weight"]).contiguous()
    return found


def alpha_factor(layer: Layer) -> float:
    """Give what alpha is to be multiplied by: √d where nmn's attention didn't divide by it, and ours does."""
    if layer.options.get("scaled", True):
        return 1.0
    return math.sqrt(layer.arguments["embed_dim"] / layer.arguments["num_heads"])


def _attention_tensors(tensors: Tensors, factor: float) -> dict[str, torch.Tensor]:
    found = {name: tensor for name, tensor in tensors.items() if name.partition(".")[0] not in PROJECTIONS}
    if "alpha" in found and factor != 1:
        found["alpha"] = found["alpha"].detach() * factor
    for part in ("weight", "bias"):
        parts = [tensors[f"{name}.{part}"] for name in PROJECTIONS if f"{name}.{part}" in tensors]
        if parts:
            found[f"in_proj_{part}"] = torch.cat(parts)
    if "out_proj.weight" not in tensors:
        weight = found["in_proj_weight"]
        found["out_proj.weight"] = torch.eye(weight.shape[1], dtype=weight.dtype)
        if "in_proj_bias" in found:
            found["out_proj.bias"] = weight.new_zeros(weight.shape[1])
    return found


def plain_size(value: object) -> object:
    """Give one number for a size that is the same in all dimensions."""
    same = isinstance(value, tuple) and len(set(value)) == 1
    return value[0] if same and isinstance(value, tuple) else value


def _alpha(generation: Generation, tensors: Tensors, options: Mapping[str, object]) -> str | float:
    if "alpha" in tensors:
        return "exponent" if generation == "0.1" else "learnable"
    constant = options.get("constant_alpha")
    if constant is True:
        return _SQRT2
    return "none" if constant is None or constant is False else float(constant)  # type: ignore[arg-type]


def _shared(
    generation: Generation, tensors: Tensors, options: Mapping[str, object], units: int
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "bias": "bias" in tensors,
        "bias_mode": "post" if generation == "0.1" else "pre",
        "learnable_epsilon": "epsilon_param" in tensors,
        "drop_connect": options.get("drop_rate", 0.0),
    }
    for name in ("spherical", "weight_normalized", "freeze_kernel", "softplus_bias"):
        found[name] = options.get(name, False)
    found["scalar_bias"] = "bias" in tensors and tensors["bias"].numel() == 1 and units > 1
    if options.get("constant_bias") is not None:
        found["constant_bias"] = options["constant_bias"]
    if "mask" in tensors:
        found["mask"] = list(tensors["weight"].shape)
    return {name: value for name, value in found.items() if value is not False or name == "bias"}


def _units(tensors: Tensors, options: Mapping[str, object]) -> int:
    """Give the number of output units: as told by the bias, or said, or one a kernel."""
    said = options.get("out_features", options.get("out_channels"))
    if isinstance(said, int):
        return said
    bias = tensors.get("bias")
    return len(bias) if bias is not None and len(bias) > 1 else len(tensors["weight"])


def _bank(tensors: Tensors, units: int) -> dict[str, Any]:
    weight = tensors["weight"]
    return {"kernel_bank": list(weight.shape)} if len(weight) != units else {}


def _linear(tensors: Tensors, options: Mapping[str, object]) -> dict[str, Any]:
    units = _units(tensors, options)
    return {
        "in_features": tensors["weight"].shape[1],
        "out_features": units,
        **_bank(tensors, units),
    }


def _windows(tensors: Tensors, options: Mapping[str, object]) -> dict[str, Any]:
    found = {name: options[name] for name in ("stride", "padding", "dilation", "groups")}
    return {"kernel_size": list(tensors["weight"].shape[2:]), **found}


def _conv(tensors: Tensors, options: Mapping[str, object]) -> dict[str, Any]:
    units = _units(tensors, options)
    return {
        "in_channels": tensors["weight"].shape[1] * int(options["groups"]),  # type: ignore[call-overload]
        "out_channels": units,
        **_windows(tensors, options),
        "padding_mode": options["padding_mode"],
        **_bank(tensors, units),
    }


def _transposed(tensors: Tensors, options: Mapping[str, object]) -> dict[str, Any]:
    rows, columns = tensors["weight"].shape[:2]
    return {
        "in_channels": rows,
        "out_channels": columns * int(options["groups"]),  # type: ignore[call-overload]
        **_windows(tensors, options),
        "output_padding": options["output_padding"],
        "taps": "kernel",
    }


def _embedding(tensors: Tensors, options: Mapping[str, object]) -> dict[str, Any]:
    rows, columns = tensors["embedding"].shape
    return {"num_embeddings": rows, "embedding_dim": columns, "spherical": options["spherical"]}


def _attention(tensors: Tensors, options: Mapping[str, object]) -> dict[str, Any]:
    return {
        "embed_dim": tensors["q_proj.weight"].shape[0],
        "num_heads": options["num_heads"],
        "dropout": options["dropout"],
        "bias": "q_proj.bias" in tensors,
        "spherical": bool(options["spherical"] or options["normalize_qk"]),
        "batch_first": True,
    }

"""A layer that was found in a state dict and what the caller says of it, put together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import torch

from bioconvert.compat.dyna.channels import Known, fitting_channels
from bioconvert.compat.dyna.evidence import Finding
from bioconvert.compat.dyna.given import Given
from bioconvert.compat.dyna.kinds import (
    COMPOSER_CHILD,
    DELTA,
    PADDING_VALUE,
    STATIC_BIAS,
    defaults_of,
)
from bioconvert.compat.dyna.layer import Layer, build_layer
from bioconvert.core.errors import first_line

_SHOWN = 4
_WINDOW = ("stride", "dilation")


@dataclass(slots=True)
class _Draft:
    """What is known of a layer so far."""

    found: Finding
    given: Given
    arguments: dict[str, Any] = field(default_factory=dict)
    assumed: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def said(self, name: str) -> Any:
        """Give what the caller says of an argument; ``None`` where nothing."""
        return self.given.get(self.found.path, name)[1]

    def take(self, *names: str) -> None:
        """Take arguments from the caller, or assume the defaults."""
        for name in names:
            value = self.said(name)
            if value is None:
                self.assumed.append(name)
                value = defaults_of(self.found.becomes)[name]
            self.arguments[name] = value


def resolve(found: Finding, given: Given) -> tuple[Layer | None, list[str]]:
    """Say what a layer becomes, or all that is missing or contradictory.

    Args:
        found: the layer.
        given: what the caller says.
    """
    draft = _Draft(found, given)
    unused: tuple[str, ...] = ()
    _check_composer(draft)
    if not draft.problems:
        sides = _take_sizes(draft)
        if found.conv is None:
            draft.arguments |= dict(zip(("rows", "cols"), sides, strict=True))
            _compare(draft, found.becomes, draft.arguments, found.composer)
        else:
            composer = {**draft.arguments, **dict(zip(("rows", "cols"), sides, strict=True))}
            inner = {f"{COMPOSER_CHILD}.{name}": tensor for name, tensor in found.composer.items()}
            _compare(draft, found.kind.composer, composer, inner, f"{COMPOSER_CHILD}.")
            unused = _take_convolution(draft, sides, found.conv)
    if draft.problems:
        return None, draft.problems
    return Layer(found.path, found.becomes, draft.arguments, tuple(draft.assumed), unused), []


def _check_composer(draft: _Draft) -> None:
    """Check that all tensors are there, and of the kind that sizes can be read from."""
    found, inner = draft.found, "" if draft.found.conv is None else f"{COMPOSER_CHILD}."
    missing = [inner + name for name in found.kind.dims if name not in found.composer]
    if missing:
        draft.problems.append(f"as a {found.becomes}, it lacks {', '.join(missing)}")
    tensors = {**{inner + name: tensor for name, tensor in found.composer.items()}, **(found.conv or {})}
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            draft.problems.append(f"{name} must hold floating-point or complex numbers, not {tensor.dtype}")
    for name, dims in found.kind.dims.items():
        if name in found.composer and found.composer[name].dim() != dims:
            shape = list(found.composer[name].shape)
            draft.problems.append(f"{inner}{name} must have {dims} dimensions, but is {shape}")


def _take_sizes(draft: _Draft) -> tuple[int, int]:
    """Read the composer's arguments from its tensors, and give the sides of its matrix."""
    tensors, kind = draft.found.composer, draft.found.kind
    draft.arguments["context_length"] = tensors["context_transform.weight"].shape[1]
    if kind is DELTA:
        banks = tensors["weights"].shape
        draft.arguments["rank"], sides = banks[1], (banks[4], banks[5])
    else:
        _, subspaces, rank, rows, _ = tensors["space_i"].shape
        transforms = tensors["direct_G_Re"].shape[0]
        draft.arguments |= {"n_subspaces": subspaces, "rank_subspace": rank}
        draft.arguments["rank_transformations"] = (transforms - 2) // 2
        sides = (rows, tensors["space_j"].shape[3])
    draft.take(*kind.untold)
    return sides


def _compare(
    draft: _Draft,
    becomes: str,
    arguments: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    prefix: str = "",
) -> None:
    """Compare tensors with those of the layer of ours, by name and shape."""
    try:
        state = build_layer(becomes, arguments, device="meta").state_dict()
    except (ValueError, RuntimeError) as error:
        draft.problems.append(f"as a {becomes}: {first_line(error)}")
        return
    own = {name: t.shape for name, t in state.items() if not name.startswith(f"{COMPOSER_CHILD}.")}
    wanted = {prefix + name: shape for name, shape in own.items()}
    lacking = [name for name in wanted if name not in tensors]
    if lacking:
        draft.problems.append(f"as a {becomes}, it lacks {', '.join(lacking)}")
    for name, tensor in tensors.items():
        if name not in wanted:
            draft.problems.append(f"a {becomes} has no {name} with these arguments")
        elif tensor.shape != wanted[name]:
            shapes = f"must be {list(wanted[name])}, but is {list(tensor.shape)}"
            draft.problems.append(f"as a {becomes}, {name} {shapes}")


def _take_convolution(
    draft: _Draft, sides: tuple[int, int], tensors: Mapping[str, torch.Tensor]
) -> tuple[str, ...]:
    """Complete a convolution's arguments; give the names of tensors that compute nothing then."""
    arguments = draft.arguments
    draft.take("kernel_size", *_WINDOW, "transpose")
    if arguments["transpose"] or draft.said("output_padding") is not None:
        draft.take("output_padding")
    unused = _take_padding(draft, tensors)
    if draft.found.kind is not DELTA:
        _take_biases(draft, tensors)
    _take_channels(draft, sides, tensors)
    if "in_channels" in arguments:
        used = {name: tensor for name, tensor in tensors.items() if name not in unused}
        _compare(draft, draft.found.becomes, arguments, used)
    return unused


def _take_padding(draft: _Draft, tensors: Mapping[str, torch.Tensor]) -> tuple[str, ...]:
    arguments, has_value = draft.arguments, PADDING_VALUE in tensors
    if has_value and not arguments["transpose"] and draft.said("padding") is None:
        draft.problems.append(
            f"padding must be said by options, as there is a value for it, {PADDING_VALUE}; 0 leaves that out"
        )
    draft.take("padding")
    padding = arguments["padding"]
    padded = padding > 0 if isinstance(padding, int) else any(padding)
    arguments["padding_dynamic"] = has_value and padded and not arguments["transpose"]
    return (PADDING_VALUE,) if has_value and not arguments["padding_dynamic"] else ()


def _take_biases(draft: _Draft, tensors: Mapping[str, torch.Tensor]) -> None:
    draft.arguments["offset_dynamic"] = "offset_dynamic_value" in tensors
    biases = ("bias_dynamic_weights_lib", "bias_dynamic_conv")
    draft.arguments["bias_dynamic"] = any(name in tensors for name in biases)
    constant = tensors.get(STATIC_BIAS)
    if constant is not None:
        value = float(constant.flatten()[0]) if constant.numel() else 0.0
        # The tensor has the value; an argument must be a number that JSON can hold.
        draft.arguments["bias_static"] = value if isfinite(value) else 0.0


def _take_channels(draft: _Draft, sides: tuple[int, int], tensors: Mapping[str, torch.Tensor]) -> None:
    size = draft.arguments["kernel_size"]
    kernel = (size, size) if isinstance(size, int) else tuple(size)
    if len(kernel) != 2:
        draft.problems.append(f"kernel_size must be one or two numbers, got {size}")
        return
    outputs, bias = draft.said("out_channels"), tensors.get("bias_dynamic_conv")
    if outputs is None and bias is not None and bias.dim() == 1:
        outputs = len(bias)
    known = Known(sides, kernel, draft.arguments["transpose"], draft.said("in_channels"), outputs)
    fitting = fitting_channels(known)
    if len(fitting) == 1:
        draft.arguments |= dict(zip(("in_channels", "out_channels"), fitting[0], strict=True))
        return
    draft.problems.append(_ambiguous(fitting, known) if fitting else _impossible(known, draft.assumed))


def _ambiguous(fitting: list[tuple[int, int]], known: Known) -> str:
    shown = ", ".join(f"{inputs} → {outputs}" for inputs, outputs in fitting[:_SHOWN])
    more = f" and {len(fitting) - _SHOWN} more" if len(fitting) > _SHOWN else ""
    sizes = f"{known.matrix[0]}×{known.matrix[1]} are {shown}{more} channels"
    return f"in_channels or out_channels must be said by options: {sizes}"


def _impossible(known: Known, assumed: list[str]) -> str:
    inputs, outputs = ("any" if channels is None else channels for channels in (known.inputs, known.outputs))
    (rows, cols), (height, width) = known.matrix, known.kernel
    text = f"no {height}×{width} convolution of {inputs} → {outputs} channels has a matrix of {rows}×{cols}"
    if "kernel_size" in assumed:
        text += "; kernel_size was assumed, say it by options"
    return text

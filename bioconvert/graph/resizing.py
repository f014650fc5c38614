"""Giving a module's tensors other sizes in place, and taking note of it so that it can be repeated or undone.

A parameter stays the very object, so that ties, hooks and optimizers keep hold of it. What grows does so at
the end of each dimension: the first units are those from before.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

RESIZED = "_bioconvert_resized"
"""Where a module keeps the shapes and attributes that it was built with, as JSON has them."""
Note = dict[str, dict[str, Any]]


def resize(
    module: nn.Module,
    tensors: Mapping[str, torch.Tensor | None],
    attributes: Mapping[str, object] | None = None,
) -> None:
    """Give a module's own tensors other values, of any shape, and its attributes that tell of it.

    Each tensor stays the object that it is, with its number format, device, hooks and ties; a gradient of the
    old shape is dropped. What the module was built with is noted, once, for :func:`restore` and for
    :func:`bioconvert.surgery.describe`.

    Args:
        module: the module, changed in place.
        tensors: new values of parameters and buffers, by name.
        attributes: plain values, such as ``{"out_features": 12}``.

    Raises:
        KeyError: the module has no tensor of that name of its own.

    Example:
        >>> layer = nn.Linear(3, 2)
        >>> resize(layer, {"weight": torch.ones(4, 3), "bias": torch.zeros(4)}, {"out_features": 4})
        >>> layer
        Linear(in_features=3, out_features=4, bias=True)
    """
    given = {name: value for name, value in tensors.items() if value is not None}
    own = {name: _tensor(module, name) for name in given}
    note: Note = vars(module).setdefault(RESIZED, {"shapes": {}, "attributes": {}})
    for name, tensor in own.items():
        note["shapes"].setdefault(name, list(tensor.shape))
        set_data(tensor, given[name])
    for name, value in (attributes or {}).items():
        note["attributes"].setdefault(name, _as_json(getattr(module, name)))
        setattr(module, name, value)


def set_data(tensor: torch.Tensor, value: torch.Tensor) -> None:
    """Give a tensor other numbers, of any shape."""
    value = (
        value.detach()
        .to(device=tensor.device, dtype=tensor.dtype)
        .clone(memory_format=torch.contiguous_format)
    )
    if tensor.shape == value.shape:
        tensor.data = value
        return
    if isinstance(tensor, nn.Parameter):
        tensor.grad = None
        # A graph that is still around, as that of the last loss, holds a node that adds up this parameter's
        # gradients and expects the old shape; only another number format makes torch give it up.
        other = torch.float32 if tensor.dtype != torch.float32 else torch.float64
        if tensor.is_floating_point():
            tensor.data = tensor.data.new_empty(0, dtype=other)
    tensor.data = value


def fitted(tensor: torch.Tensor, shape: Sequence[int], fill: float = 0.0) -> torch.Tensor:
    """Give a tensor cut or filled up at the end of each dimension."""
    result = tensor.new_full(tuple(shape), fill)
    common = tuple(slice(min(old, new)) for old, new in zip(tensor.shape, shape, strict=True))
    result[common] = tensor[common]
    return result


def note_of(module: nn.Module) -> Note | None:
    """Give what a module was built with, if it has been resized."""
    note: Note | None = vars(module).get(RESIZED)
    return note


def described(module: nn.Module) -> dict[str, Any]:
    """Say, as JSON has it, what a resized module was built with and what it has now."""
    note = vars(module)[RESIZED]
    return {
        "shapes": {name: list(shape) for name, shape in note["shapes"].items()},
        "attributes": dict(note["attributes"]),
        "new_shapes": {name: list(_tensor(module, name).shape) for name in note["shapes"]},
        "new_attributes": {name: _as_json(getattr(module, name)) for name in note["attributes"]},
    }


def misfits(module: nn.Module, told: Mapping[str, Any], added: Container[str] = ()) -> Iterator[str]:
    """Name what :func:`repeat` would find otherwise than it was.

    Args:
        module: the module, freshly built.
        told: what :func:`described` said of another one.
        added: names of the tensors that it will get before.
    """
    for name, shape in told["shapes"].items():
        if name in added:
            continue
        found = module._parameters.get(name, module._buffers.get(name))
        if found is None or list(found.shape) != shape:
            yield f"its {name} {'is missing' if found is None else f'is {list(found.shape)}'} and was {shape}"


def repeat(module: nn.Module, told: Mapping[str, Any]) -> None:
    """Give a freshly built module the sizes of another; the values come by loading."""
    for name, shape in told["new_shapes"].items():
        set_data(_tensor(module, name), fitted(_tensor(module, name).detach(), shape))
    for name, value in told["new_attributes"].items():
        setattr(module, name, _as_attribute(value))
    vars(module)[RESIZED] = {key: dict(told[key]) for key in ("shapes", "attributes")}


def restore(module: nn.Module) -> dict[torch.Tensor, torch.Size]:
    """Give a module the sizes that it was built with: what grew goes, what is lacking becomes zero.

    Returns:
        The tensors, each with the shape that it had.
    """
    note: Note = vars(module).pop(RESIZED)
    before = {_tensor(module, name): _tensor(module, name).shape for name in note["shapes"]}
    for name, shape in note["shapes"].items():
        tensor = _tensor(module, name)
        set_data(tensor, fitted(tensor.detach(), shape))
    for name, value in note["attributes"].items():
        setattr(module, name, _as_attribute(value))
    return before


def as_built(fields: dict[str, Any]) -> dict[str, Any]:
    """Give a module's fields, as :func:`vars` has them, as they were before it was resized.

    The tensors that differ have no values.
    """
    note: Note | None = fields.get(RESIZED)
    if note is None:
        return fields
    found = {name: value for name, value in fields.items() if name != RESIZED}
    for table in ("_parameters", "_buffers"):
        found[table] = {
            name: _without_values(tensor, note["shapes"].get(name)) for name, tensor in fields[table].items()
        }
    return {**found, **{name: _as_attribute(value) for name, value in note["attributes"].items()}}


def fit_state(optimizer: torch.optim.Optimizer, parameter: torch.Tensor, before: Iterable[int]) -> None:
    """Cut or fill up, with zeros, what an optimizer keeps for each element of a resized parameter.

    Numbers that stay keep every bit. A dimension that is 1 in the state, as in Adafactor's, stays so.

    Args:
        optimizer: the optimizer, changed in place.
        parameter: the parameter, resized already.
        before: the shape that it had.
    """
    old, state = tuple(before), optimizer.state.get(parameter, {})
    for name, value in state.items():
        if isinstance(value, torch.Tensor) and is_elementwise(value, old):
            pairs = zip(value.shape, old, parameter.shape, strict=True)
            state[name] = fitted(value, [new if size == was else size for size, was, new in pairs])


def is_elementwise(value: torch.Tensor, shape: Sequence[int]) -> bool:
    """Say whether numbers belong to the elements, or rows or columns, of a tensor of some shape."""
    if value.dim() != len(shape) or value.dim() == 0:
        return False
    return all(size in (was, 1) for size, was in zip(value.shape, shape, strict=True))


def _without_values(tensor: torch.Tensor | None, shape: Sequence[int] | None) -> torch.Tensor | None:
    if tensor is None or shape is None:
        return tensor
    return tensor.detach().new_empty(tuple(shape), device="meta")


def _tensor(module: nn.Module, name: str) -> torch.Tensor:
    found: torch.Tensor | None = module._parameters.get(name)
    found = module._buffers[name] if found is None else found
    if found is None:
        raise KeyError(name)
    return found


def _as_json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _as_attribute(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value

"""Adding to what a module gives, whatever it gives: a tensor, or one inside tuples, lists and mappings."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from bioconvert.core.errors import OptionError


def with_added(output: Any, additions: Sequence[torch.Tensor]) -> Any:
    """Give an output with something added to its first tensor of floating numbers.

    Raises:
        OptionError: it holds none.
    """
    if not additions:
        return output
    y = first_floating(output)
    if y is None:
        raise OptionError("the output of a node with branches must hold a tensor of floating numbers")
    for addition in additions:
        y = y + addition
    return with_first(output, y)


def first_floating(output: Any) -> torch.Tensor | None:
    """Give the first tensor of floating numbers in an output, or ``None``."""
    if isinstance(output, torch.Tensor):
        return output if output.is_floating_point() or output.is_complex() else None
    for part in _parts(output):
        found = first_floating(part)
        if found is not None:
            return found
    return None


def with_first(output: Any, value: torch.Tensor) -> Any:
    """Give an output with another tensor in the place of its first one of floating numbers.

    What holds it is copied; everything else in it stays the very object.
    """
    if isinstance(output, torch.Tensor):
        return value
    if isinstance(output, Mapping):
        key = next(key for key, part in output.items() if first_floating(part) is not None)
        return _with_item(output, key, with_first(output[key], value))
    place = next(i for i, part in enumerate(output) if first_floating(part) is not None)
    items = [with_first(part, value) if i == place else part for i, part in enumerate(output)]
    if hasattr(output, "_fields"):
        return type(output)(*items)
    return items if isinstance(output, list) else tuple(items)


def fresh_arguments(value: Any) -> Any:
    """Give arguments that may be written to without a trace: tensors and what holds them are copied."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if type(value) in (list, tuple):
        return type(value)([fresh_arguments(each) for each in value])
    if type(value) is dict:
        return {key: fresh_arguments(each) for key, each in value.items()}
    if hasattr(value, "_fields"):
        return type(value)(*[fresh_arguments(each) for each in value])
    return value


def _with_item(output: Any, key: Any, value: Any) -> Any:
    if type(output) is dict:
        return {**output, key: value}
    if hasattr(output, "__dataclass_fields__"):
        return type(output)(**{**output, key: value})
    changed = copy.copy(output)
    changed[key] = value
    return changed


def _parts(output: Any) -> Any:
    if isinstance(output, Mapping):
        return output.values()
    return output if isinstance(output, (tuple, list)) else ()

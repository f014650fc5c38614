"""What several nodes give, as one value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from bioconvert.core.errors import OptionError


def summed(names: Sequence[str], values: Mapping[str, Any]) -> torch.Tensor:
    """Add up what some nodes give.

    Raises:
        OptionError: it isn't all tensors of one shape.
    """
    _check(names, values)
    total: torch.Tensor = values[names[0]]
    for name in names[1:]:
        total = total + values[name]
    return total


def averaged(names: Sequence[str], values: Mapping[str, Any]) -> torch.Tensor:
    """Give the mean of what some nodes give, as :func:`summed`."""
    return summed(names, values) / len(names)


def as_floating(x: Any) -> Any:
    """Give a tensor of whole numbers as one of floating numbers; everything else as it is."""
    if not isinstance(x, torch.Tensor) or x.is_floating_point() or x.is_complex():
        return x
    return x.to(torch.get_default_dtype())


def _check(names: Sequence[str], values: Mapping[str, Any]) -> None:
    first = values[names[0]]
    for name in names:
        value = values[name]
        if not isinstance(value, torch.Tensor):
            raise OptionError(f"what {name!r} gives is joined, and so must be a tensor, not {_said(value)}")
        if value.shape != first.shape:
            raise OptionError(
                f"what is joined must be of one shape, but {names[0]!r} gives {_said(first)} and {name!r} "
                f"{_said(value)}"
            )


def _said(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, torch.Tensor) else type(value).__name__

"""What tells a pager which values are about to be read or changed, operation by operation, in one thread."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from bioconvert.core.errors import OptionError

if TYPE_CHECKING:
    from bioconvert.checkpoint.models.paging import Pager

_STATISTICS = ("running_mean", "running_var")
"""Arguments that batch normalisation changes though its schema doesn't say so."""
_KEPT = {torch.Tensor.numpy, torch.Tensor.__array__, torch.Tensor.__dlpack__}
_COPIED = {torch.Tensor.tolist, torch.Tensor.__repr__}


class StreamingError(OptionError):
    """What was asked for needs all values of a checkpoint in memory."""


class Faults(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Brings in the values that operations of torch read.

    Args:
        pager: what has them.
    """

    def __init__(self, pager: Pager):
        super().__init__()  # type: ignore[no-untyped-call]
        self._pager = pager

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """See to it that an operation finds its values."""
        kwargs = kwargs or {}
        if _may_read(func):
            tensors = list(_tensors_in((*args, *kwargs.values())))
            if tensors:
                self._pager.load_all(tensors, _written(func, args, kwargs))
        return func(*args, **kwargs)


class Guard(TorchFunctionMode):
    """Keeps values from being read where no operation is seen.

    Args:
        pager: what has them.
    """

    def __init__(self, pager: Pager):
        super().__init__()
        self._pager = pager

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Bring in what is copied at once; refuse what would be held while the values leave.

        Raises:
            StreamingError: such a view is asked for.
        """
        if func in _COPIED:
            self._pager.load(args[0])
        elif func in _KEPT and self._pager.has(args[0]):
            raise StreamingError(
                f"{func.__name__} reads a tensor outside torch's operations: take a clone() of it, "
                "or convert in memory (--no-stream)"
            )
        return func(*args, **(kwargs or {}))


@cache
def _may_read(func: Any) -> bool:
    # In inference mode composite operations come whole: those that may be views (reshape, to) may copy.
    return not func.is_view or bool(func._can_decompose())


def _tensors_in(values: Any) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors_in(value)


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor]:
    """Give the tensors that an operation changes, as its schema tells."""
    schema = func._schema
    if not schema.is_mutable and "batch_norm" not in schema.name:
        return []
    named = {each.name: value for each, value in zip(schema.arguments, args, strict=False)} | kwargs
    changed = [
        each.name
        for each in schema.arguments
        if each.name in _STATISTICS or (each.alias_info is not None and each.alias_info.is_write)
    ]
    return list(_tensors_in(named[name] for name in changed if name in named))

"""Tensors that a conversion makes, for whoever keeps them elsewhere than in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from bioconvert.core.context import holding

if TYPE_CHECKING:
    import torch

Keeper = Callable[["torch.Tensor"], None]
"""Called with a tensor that has its value and its place; it may give it other memory with the same value."""


def announce(tensors: Iterable[torch.Tensor]) -> None:
    """Hand new tensors to the keeper, if there is one."""
    keeper = _keeper.get()
    if keeper is not None:
        for tensor in tensors:
            keeper(tensor)


def keeping(keeper: Keeper) -> AbstractContextManager[None]:
    """Let a function take care of new tensors for a while."""
    return holding(_keeper, keeper)


_keeper: ContextVar[Keeper | None] = ContextVar("keeper", default=None)

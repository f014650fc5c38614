"""Tensors that a conversion makes, for whoever keeps them elsewhere than in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

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


@contextmanager
def keeping(keeper: Keeper) -> Iterator[None]:
    """Let a function take care of new tensors for a while."""
    token = _keeper.set(keeper)
    try:
        yield
    finally:
        _keeper.reset(token)


_keeper: ContextVar[Keeper | None] = ContextVar("keeper", default=None)

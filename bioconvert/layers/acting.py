"""Whether a module still computes what the class it was converted from computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from bioconvert.core.registry import is_layer

_called = False
"""Whether every layer is to be called; plain, since compilers look at it too."""


def acts_as_original(module: nn.Module) -> bool:
    """Say whether a module computes, bit for bit, what it did before any conversion.

    A layer of ours doesn't, unless its own method ``acts_as_original()`` says that it does for the time
    being; any other module does.
    """
    if _called:
        return False
    cls = type(module)
    own = getattr(cls, "acts_as_original", None)
    return bool(own(module)) if own is not None else not is_layer(cls)


@contextmanager
def every_layer_called() -> Iterator[None]:
    """Let containers call their layers for a while, as if none of these acted as the original."""
    global _called  # one state of the process, for as long as the context lasts
    before, _called = _called, True
    try:
        yield
    finally:
        _called = before

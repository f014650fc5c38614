"""Whether a module still computes what the class it was converted from computes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.autograd import Function

from bioconvert.core.registry import is_layer

_called = False
"""Whether every layer is to be called; plain, since compilers look at it too."""


def acts_as_original(module: nn.Module) -> bool:
    """Say whether a module computes, bit for bit, what it did before any conversion.

    A layer of ours doesn't, unless its own method ``acts_as_original()`` says that it does for the time
    being, nor does a module beside which something grew; any other module does.
    """
    cls = type(module)
    if _called or any(name in module._modules for name in getattr(cls, "own_children", ())):
        return False
    own = getattr(cls, "acts_as_original", None)
    return bool(own(module)) if own is not None else not is_layer(cls)


def joined(x: torch.Tensor, parameters: Sequence[nn.Parameter]) -> torch.Tensor:
    """Give a tensor back, and make parameters that have no part in it part of its graph.

    They get a gradient of zero: who reduces gradients over processes waits for each of them.
    """
    if not parameters or not torch.is_grad_enabled() or not x.is_floating_point():
        return x
    found: torch.Tensor = _Joined.apply(x, *parameters)  # type: ignore[no-untyped-call]
    return found


def with_idle_parameters(output: torch.Tensor, layers: Iterable[nn.Module]) -> torch.Tensor:
    """Make the parameters of layers that aren't called yet part of the graph of what is given instead."""
    idle = [
        parameter
        for layer in layers
        if hasattr(type(layer), "idle_parameters")
        for parameter in layer.idle_parameters()  # type: ignore[operator]
    ]
    # A copy, which the next operation may change in place.
    return joined(output.clone(), idle) if idle and torch.is_grad_enabled() else output


class _Joined(Function):
    """Gives its first argument back, and makes the others part of its graph."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(*parameters)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        by_x = grads[0] if ctx.needs_input_grad[0] else None
        return by_x, *(torch.zeros_like(parameter) for parameter in ctx.saved_tensors)


@contextmanager
def every_layer_called() -> Iterator[None]:
    """Let containers call their layers for a while, as if none of these acted as the original."""
    global _called  # one state of the process, for as long as the context lasts
    before, _called = _called, True
    try:
        yield
    finally:
        _called = before

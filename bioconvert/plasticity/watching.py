"""Forward hooks that a copy of the model doesn't take along."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

See = Callable[[tuple[Any, ...], Any], None]
"""Looks at a layer's positional inputs and its output."""


def on_forward(module: nn.Module, see: See) -> RemovableHandle:
    """Call a function after each forward of a layer, with its inputs and its output.

    A deep copy or a pickle of the layer sees nothing: what watches belongs to the optimizer that is bound.
    """
    return module.register_forward_hook(Watcher(see))


class Watcher:
    """A forward hook; a copy of it does nothing.

    Args:
        see: what looks at inputs and output.
    """

    def __init__(self, see: See):
        self._see = see

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        del module
        self._see(inputs, output)

    def __reduce__(self) -> tuple[Any, ...]:
        return Watcher, (see_nothing,)


def see_nothing(inputs: tuple[Any, ...], output: Any) -> None:
    """Look away."""


def forget_copies(model: nn.Module) -> None:
    """Remove the hooks that came into a model as copies."""
    for module in model.modules():
        for key, hook in list(module._forward_hooks.items()):
            if isinstance(hook, Watcher) and hook._see is see_nothing:
                del module._forward_hooks[key]

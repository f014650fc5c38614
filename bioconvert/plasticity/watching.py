"""Forward hooks that a copy of the model doesn't take along."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

See = Callable[[tuple[Any, ...], Any], None]
"""Looks at a layer's positional inputs and its output."""


class Watcher(ABC):
    """A forward hook that belongs to the bound optimizer: a deep copy or a pickle of it does nothing."""

    @abstractmethod
    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Take note of one call of a layer."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Asleep, ()


class Asleep:
    """What a copy of the model has in place of a hook."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Do nothing."""


class Onlooker(Watcher):
    """Calls a function after each forward of a layer.

    Args:
        see: the function.
    """

    def __init__(self, see: See):
        self._see = see

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Let the function see inputs and output."""
        del module
        self._see(args, output)


def on_forward(module: nn.Module, see: See) -> RemovableHandle:
    """Call a function after each forward of a layer, with its inputs and its output."""
    return module.register_forward_hook(Onlooker(see))


def forget_copies(model: nn.Module) -> None:
    """Remove the hooks that came into a model as copies."""
    for module in model.modules():
        for key, hook in list(module._forward_hooks.items()):
            if isinstance(hook, Asleep):
                del module._forward_hooks[key]

"""Children that a module got by growing, which neither its own class nor a freshly built model knows of.

A behaviour class names them by ``own_children``, and brings them back by ``regrow(module, attributes)``. A
class whose children users put together says by ``blueprint()`` what they are, as JSON has it, and makes them
again by ``rebuild(blueprint)``, which gives what it added: the module that holds each, and its name there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

ORGANISM = "_bioconvert_organism"
"""Where a model keeps what is known of all its growing parts together, as JSON has it."""


def grown_names(module: nn.Module, cls: type | None = None) -> tuple[str, ...]:
    """Name the children that a module's behaviour may have brought and that it has.

    Args:
        module: the module.
        cls: its class, where it stands in another one for a while.
    """
    names: tuple[str, ...] = getattr(cls or type(module), "own_children", ())
    return tuple(name for name in names if name in module._modules)


def shed(module: nn.Module, cls: type | None = None) -> dict[str, nn.Module | None]:
    """Take the grown children from a module, and give them."""
    return {name: module._modules.pop(name) for name in grown_names(module, cls)}


@contextmanager
def without_grown(module: nn.Module, cls: type | None = None) -> Iterator[None]:
    """Let a module be without its grown children for a while."""
    children = shed(module, cls)
    try:
        yield
    finally:
        module._modules.update(children)


def is_put_together(module: nn.Module) -> bool:
    """Say whether a module tells by a blueprint how it was put together."""
    return hasattr(type(module), "own_children") and hasattr(type(module), "rebuild")


def blueprint_of(module: nn.Module) -> dict[str, Any] | None:
    """Give what a module tells of how it was put together, if it does."""
    if not is_put_together(module):
        return None
    told: Any = module
    blueprint: dict[str, Any] = told.blueprint()
    return blueprint

"""Bringing back, on a freshly built model, the children that modules of another one had got by growing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from bioconvert.core.classes import import_class
from bioconvert.graph.grown import is_put_together
from bioconvert.graph.tree import ModuleTree


def regrown(root: nn.Module, description: Mapping[str, Any]) -> Iterator[tuple[nn.Module, str]]:
    """Let modules grow what their steps tell of, before any step is done again: copies are those of a base.

    Modules come in the order of the model they were described in, so that what holds others is copied, with
    these as they were built, before they grow themselves.

    Args:
        root: the model.
        description: what was done to the other one.

    Returns:
        Each module that grows, with the name of the child that it gets.
    """
    for entry in description["modules"]:
        if "blueprint" in entry:
            yield from _rebuilt(_module_at(root, entry["path"]), entry["blueprint"])
        for step in entry["steps"]:
            into = _growing(step)
            module = None if into is None else _module_at(root, entry["path"])
            if module is not None:
                names = [name for name in getattr(into, "own_children", ()) if name not in module._modules]
                yield from ((module, name) for name in names)
                into.regrow(module, step["attributes"])


def _rebuilt(module: Any, blueprint: Mapping[str, Any]) -> Iterator[tuple[nn.Module, str]]:
    # A module that is of another kind is a misfit, which is reported with all the others.
    if module is not None and is_put_together(module):
        yield from module.rebuild(blueprint)


def _growing(step: Mapping[str, Any]) -> Any:
    """Give the class that a step makes of a module, if its modules can grow."""
    if step["into"] is None:
        return None
    try:
        into = import_class(step["into"])
    except ImportError:
        return None  # a misfit, which is reported with all the others
    return into if hasattr(into, "regrow") else None


def _module_at(root: nn.Module, path: str) -> nn.Module | None:
    """Find a module by its name, of which a part may itself hold dots."""
    return next((place.module for place in ModuleTree(root).places if place.name == path), None)

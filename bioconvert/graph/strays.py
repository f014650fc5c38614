"""Modules, and forwards bound to them, that a model holds where torch doesn't look."""

from __future__ import annotations

from collections.abc import Iterator
from types import MethodType
from typing import Any

from torch import nn

from bioconvert.graph.tree import ModuleTree

_TABLES = frozenset({"_modules", "_parameters", "_buffers"})


def unregistered(tree: ModuleTree) -> dict[nn.Module, str]:
    """Give the modules in plain lists, tuples and dicts that are no part of the model, with their names."""
    registered = {place.module for place in tree.modules()}
    found: dict[nn.Module, str] = {}
    for place in tree.modules():
        for name, value in _held(place.module):
            if isinstance(value, nn.Module) and value not in registered:
                prefix = f"{place.name}.{name}" if place.name else name
                for inner, module in value.named_modules():
                    if module not in registered:
                        found.setdefault(module, f"{prefix}.{inner}" if inner else prefix)
    return found


def bound_forwards(tree: ModuleTree) -> dict[nn.Module, str]:
    """Give the modules whose forward is held as a bound method, with the name that holds it."""
    found: dict[nn.Module, str] = {}
    for place in tree.modules():
        for name, value in _held(place.module):
            if isinstance(value, MethodType) and value.__name__ == "forward":
                owner = value.__self__
                if isinstance(owner, nn.Module) and owner is not place.module:
                    found.setdefault(owner, f"{place.name}.{name}" if place.name else name)
    return found


def _held(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Give what a module holds as plain attributes, and in lists, tuples and dicts of these."""
    if type(module).__module__.startswith("torch.nn.modules"):
        return  # torch's own hold nothing of the kind
    for name, value in vars(module).items():
        if name in _TABLES or "hooks" in name:
            continue
        if isinstance(value, (list, tuple)):
            yield from ((f"{name}[{i}]", item) for i, item in enumerate(value))
        elif isinstance(value, dict):
            yield from ((f"{name}[{key!r}]", item) for key, item in value.items())
        elif isinstance(value, MethodType):
            yield name, value

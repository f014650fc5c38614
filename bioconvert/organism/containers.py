"""Containers whose forward goes through their children: what grew beside them is none of these."""

from __future__ import annotations

from collections import OrderedDict
from functools import wraps
from typing import Any

from torch import nn

from bioconvert.graph.grown import without_grown
from bioconvert.organism.record import GROWN

_EDITS = ("__setitem__", "__delitem__", "append", "extend", "insert", "pop", "clear", "update")
"""What changes a container, by the number of a child or behind the last one."""


def container_members(base: type[nn.Module]) -> dict[str, Any]:
    """Give the methods that leave out what grew, for classes of containers."""
    if issubclass(base, nn.ModuleDict):
        return {**_MAPPING, **_editing(base)}
    if issubclass(base, nn.Sequential):
        return {**_SEQUENCE, "__getitem__": _getting(base, nn.Sequential), **_editing(base)}
    if issubclass(base, nn.ModuleList):
        return {**_SEQUENCE, "__getitem__": _getting(base, nn.ModuleList), **_editing(base)}
    return {}


def _children(self: nn.Module) -> dict[str, Any]:
    return {key: child for key, child in self._modules.items() if key != GROWN}


def _getting(base: type[Any], plain: type[Any]) -> Any:
    def get(self: Any, index: Any) -> Any:
        if isinstance(index, slice):
            return plain(*_sliced(self, index, plain))
        # What grew may lie between the children, where some were added since.
        return (
            list(_children(self).values())[index] if GROWN in self._modules else base.__getitem__(self, index)
        )

    return get


def _editing(base: type[Any]) -> dict[str, Any]:
    return {name: _without_what_grew(getattr(base, name)) for name in _EDITS if hasattr(base, name)}


def _without_what_grew(method: Any) -> Any:
    @wraps(method)
    def edit(self: Any, *args: Any, **kwargs: Any) -> Any:
        with without_grown(self):
            return method(self, *args, **kwargs)

    return edit


def _sliced(self: nn.Module, index: slice, plain: type[nn.Module]) -> list[Any]:
    items = list(_children(self).items())[index]
    return [OrderedDict(items)] if plain is nn.Sequential else [[child for _, child in items]]


_SEQUENCE: dict[str, Any] = {
    "__iter__": lambda self: iter(_children(self).values()),
    "__len__": lambda self: len(_children(self)),
}
_MAPPING: dict[str, Any] = {
    "__iter__": lambda self: iter(_children(self)),
    "__len__": lambda self: len(_children(self)),
    "__contains__": lambda self, key: key in _children(self),
    "keys": lambda self: _children(self).keys(),
    "values": lambda self: _children(self).values(),
    "items": lambda self: _children(self).items(),
}

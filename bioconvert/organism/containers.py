"""Containers whose forward goes through their children: what grew beside them is none of these."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from torch import nn

from bioconvert.organism.record import GROWN


def container_members(base: type[nn.Module]) -> dict[str, Any]:
    """Give the methods that leave out what grew, for classes of containers."""
    if issubclass(base, nn.ModuleDict):
        return dict(_MAPPING)
    if issubclass(base, nn.Sequential):
        return {**_SEQUENCE, "__getitem__": _getting(base, nn.Sequential)}
    if issubclass(base, nn.ModuleList):
        return {**_SEQUENCE, "__getitem__": _getting(base, nn.ModuleList)}
    return {}


def _children(self: nn.Module) -> dict[str, Any]:
    return {key: child for key, child in self._modules.items() if key != GROWN}


def _getting(base: type[Any], plain: type[Any]) -> Any:
    def get(self: Any, index: Any) -> Any:
        return (
            plain(*_sliced(self, index, plain)) if isinstance(index, slice) else base.__getitem__(self, index)
        )

    return get


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

"""Names that are imported when first used, so that ``--help`` and ``rules check`` need not load torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from types import ModuleType


def lazy_exports(package: str, names: Mapping[str, str]) -> Callable[[str], object]:
    """Give a module-level ``__getattr__`` that imports each public name from its own module on first use.

    Args:
        package: the package's ``__name__``.
        names: public name → dotted name of the module that defines it.
    """

    def get(name: str) -> object:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(names[name]), name)
        setattr(importlib.import_module(package), name, value)
        return value

    return get


class LazyModule:
    """A module that is imported when something of it is first used.

    Args:
        name: its dotted name.
    """

    def __init__(self, name: str):
        self._name = name
        self._module: ModuleType | None = None

    def __getattr__(self, attribute: str) -> object:
        if self._module is None:
            self._module = importlib.import_module(self._name)
        return getattr(self._module, attribute)

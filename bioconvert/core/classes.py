"""Classes by name: of what a module is an instance, without importing anything."""

from __future__ import annotations

import importlib
import sys
from weakref import WeakKeyDictionary


def qualified_name(cls: type) -> str:
    """Give ``module.qualname`` of a class."""
    return f"{cls.__module__}.{cls.__qualname__}"


def loaded_class(dotted: str) -> type | None:
    """Find a class by a public dotted name among the modules that are already imported.

    A class whose module was never imported has no instances, so nothing is lost by not importing it.
    """
    module_name, _, name = dotted.rpartition(".")
    found = getattr(sys.modules.get(module_name), name, None)
    return found if isinstance(found, type) else None


def import_class(dotted: str) -> type:
    """Import a class by ``module.qualname``.

    Raises:
        ImportError: no such module, or no such class in it.
    """
    parts = dotted.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError as error:
            if error.name is not None and ".".join(parts[:cut]).startswith(error.name):
                continue
            raise
        for name in parts[cut:]:
            found = getattr(found, name, None)
        if isinstance(found, type):
            return found
        break
    raise ImportError(f"there is no class {dotted!r}")


_ancestors: WeakKeyDictionary[type, frozenset[str]] = WeakKeyDictionary()


def ancestor_names(cls: type) -> frozenset[str]:
    """Give the qualified names of a class and of everything it inherits from."""
    if cls not in _ancestors:
        _ancestors[cls] = frozenset(qualified_name(ancestor) for ancestor in cls.__mro__)
    return _ancestors[cls]

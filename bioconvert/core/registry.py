"""Name → layer, replacement, mechanism, node. The engine finds them here and knows none of them itself.

A module that registers something is found through the entry-point group ``bioconvert.plugins``, ours like
anyone's. Importing such a module must not import torch, if ``bioconvert rules check`` is to stay fast.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, TypeVar

from bioconvert.core.classes import loaded_class
from bioconvert.core.options import option_names, options_model
from bioconvert.core.suggest import hint

if TYPE_CHECKING:
    from torch import nn

    from bioconvert.core.change import Change

GROUP = "bioconvert.plugins"
_log = logging.getLogger("bioconvert")
_Class = TypeVar("_Class", bound=type)
_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Entry:
    """One registered builder.

    Args:
        name: the name that rule files use.
        build: ``build(module, site, **options) -> Change``; raises ``Refused`` for a module it won't touch.
        of: public dotted name of the class it turns into something else; empty where any module will do.
    """

    name: str
    build: Callable[..., Change]
    of: str = ""


class Registry:
    """The builders of one kind, by name and by the class they work on."""

    def __init__(self, kind: str):
        self.kind = kind
        self._entries: dict[str, dict[str, Entry]] = {}
        self._found: dict[tuple[str, type], Entry | None] = {}

    def register(self, name: str, build: Callable[..., Change], of: Iterable[str]) -> None:
        """Add a builder under a name for each class in ``of``.

        Raises:
            ValueError: the name is taken for one of these classes, or has other options there.
        """
        known = self._entries.setdefault(name, {})
        self._found.clear()
        for base in of:
            if base in known:
                raise ValueError(f"{self.kind} {name!r} is registered for {base or 'any module'} already")
            for entry in known.values():
                if not _same_options(entry.build, build):
                    raise ValueError(f"{self.kind} {name!r} must have the same options for every class")
            known[base] = Entry(name, build, base)

    def names(self) -> tuple[str, ...]:
        """Name everything registered, plugins included."""
        load_plugins()
        return tuple(sorted(self._entries))

    def entries(self, name: str) -> Mapping[str, Entry]:
        """Give the builders under a name, by the class they are for.

        Raises:
            KeyError: nothing of that name; the text says what is known and what may have been meant.
        """
        load_plugins()
        if name not in self._entries:
            raise KeyError(f"there is no {self.kind} named {name!r}. {hint(name, self._entries)}")
        return self._entries[name]

    def find(self, name: str, cls: type[nn.Module]) -> Entry | None:
        """Give the builder under ``name`` for modules of class ``cls``: that of its nearest ancestor."""
        if (name, cls) not in self._found:
            self._found[name, cls] = self._search(name, cls)
        return self._found[name, cls]

    def _search(self, name: str, cls: type) -> Entry | None:
        entries = self.entries(name)
        by_class = {loaded_class(base): entry for base, entry in entries.items() if base}
        for ancestor in cls.__mro__:
            if ancestor in by_class:
                return by_class[ancestor]
        return entries.get("")


replacements = Registry("replacement")
mechanisms = Registry("mechanism")
nodes = Registry("node")
_layers: set[type] = set()
_owners: dict[str, type] = {}


def replacement(name: str, *, of: str | tuple[str, ...]) -> Callable[[_Function], _Function]:
    """Register ``build(layer, site, **options) -> Change`` as what ``replace: {with: name}`` does.

    Args:
        name: the name in rule files, also that of the layer's class.
        of: public dotted name of the class or classes that it replaces, such as ``"torch.nn.Linear"``.
    """
    return _decorator(replacements, name, (of,) if isinstance(of, str) else of)


def mechanism(name: str) -> Callable[[_Function], _Function]:
    """Register ``build(module, site, **options) -> Change`` as what ``attach: [name]`` does."""
    return _decorator(mechanisms, name, ("",))


def node(name: str) -> Callable[[_Function], _Function]:
    """Register ``build(module, site, **options) -> Change`` as what ``wrap: {kind: name}`` does."""
    return _decorator(nodes, name, ("",))


def layer(cls: _Class) -> _Class:
    """Register a layer class, so that it counts as one of ours in a family and is a leaf when traced."""
    if cls in _layers:
        raise ValueError(f"layer {cls.__name__} is registered already")
    _layers.add(cls)
    return cls


def is_layer(cls: type) -> bool:
    """Say whether a class is, or inherits from, a registered layer."""
    return any(ancestor in _layers for ancestor in cls.__mro__)


def owner(of: str) -> Callable[[_Class], _Class]:
    """Register the class by which a module calls the children whose weights it would read otherwise.

    Args:
        of: public dotted name of the class that reads them, such as ``"torch.nn.MultiheadAttention"``.
    """

    def register(cls: _Class) -> _Class:
        if of in _owners:
            raise ValueError(f"an owner is registered for {of} already: {_owners[of].__name__}")
        _owners[of] = cls
        return cls

    return register


def owner_for(cls: type) -> type | None:
    """Give the class by which a ``cls`` module calls its children, or ``None``.

    That is the one registered for the nearest ancestor, unless ``cls`` has a ``forward`` of its own.
    """
    by_class = {loaded_class(of): registered for of, registered in _owners.items()}
    for ancestor in cls.__mro__:
        if ancestor in by_class:
            same = getattr(cls, "forward", None) is getattr(ancestor, "forward", None)
            return by_class[ancestor] if same else None
    return None


@lru_cache(maxsize=1)
def load_plugins() -> None:
    """Import every module that the entry-point group names; one that fails is logged and left out."""
    for entry_point in entry_points(group=GROUP):
        try:
            entry_point.load()
        except Exception:  # noqa: BLE001 - a broken plugin must not take the tool down with it
            _log.exception("the plugin %r could not be loaded", entry_point.value)


def _decorator(registry: Registry, name: str, of: Iterable[str]) -> Callable[[_Function], _Function]:
    def register(build: _Function) -> _Function:
        registry.register(name, build, of)
        return build

    return register


def _same_options(one: Callable[..., Change], other: Callable[..., Change]) -> bool:
    if option_names(one) != option_names(other):
        return False
    return _schema(one) == _schema(other)


def _schema(build: Callable[..., Change]) -> dict[str, Any]:
    """Give the schema of a builder's options, but for its title, which is the function's name."""
    schema = options_model(build).model_json_schema()
    del schema["title"]
    return schema

"""Watching what one container's forward reads, and putting back what it changes.

What is read becomes guards. Modules are watched through ``nn.Module`` itself, other objects through their
class, for as long as the forward is traced; what can't be watched is refused.
"""

from __future__ import annotations

import contextlib
import functools
import types
from collections import deque
from typing import Any, NoReturn

import torch
from torch import nn

from bioconvert.graph.guards import (
    BY_VALUE,
    CONTAINERS,
    OPAQUE,
    Attribute,
    Children,
    Contents,
    Guard,
    Identity,
    Item,
    OfType,
    Path,
    State,
)

_MISSING = object()
_TABLES = ("_parameters", "_buffers", "_modules")
_INTERNAL = frozenset(vars(nn.Module())) - {"training"} | {"__dict__", "forward"}
"""What torch itself reads of a module that it calls or asks for a child."""
_OWN_GETATTR = nn.Module.__getattr__
_MOST_ITEMS = 1000
"""Entries of a container that are compared on every call, at most."""
_DEEPEST = 12
"""Steps from the container to what is watched, at most."""
_HEAP_TYPE, _IMMUTABLE_TYPE = 1 << 9, 1 << 8
"""Flags of CPython's types: made by Python code; attributes can't be set."""


class Untraceable(Exception):  # noqa: N818 - ordinary control flow, named for what it says
    """Raised for a container whose forward can't be traced; carries the reason."""


class Watch:
    """What one container's forward reads and changes while it is traced."""

    def __init__(self, container: nn.Module):
        self.container = container
        self.refusal: Untraceable | None = None
        self.tensors: dict[int, str] = {}
        self._guards: dict[tuple[Path, str], Guard] = {}
        self._seen: set[tuple[int, str]] = set()
        self._known: dict[int, tuple[object, Path]] = {}
        self._kept: list[tuple[str, Any, Any]] = []
        self._patched: list[tuple[type, Any]] = []
        self._know_module(container, ())

    @property
    def guards(self) -> tuple[Guard, ...]:
        """What was read, in that order."""
        return tuple(self._guards.values())

    def refuse(self, reason: str) -> NoReturn:
        """Give the trace up, also where the forward catches the exception."""
        self.refusal = self.refusal or Untraceable(reason)
        raise self.refusal

    def close(self) -> list[str]:
        """Stop watching objects, put back what was changed, and name it."""
        for cls, original in reversed(self._patched):
            if original is _MISSING:
                type.__delattr__(cls, "__getattribute__")
            else:
                type.__setattr__(cls, "__getattribute__", original)
        changed: set[str] = set()
        for name, live, copy in self._kept:
            changed |= _restored(name, live, copy)
        return sorted(changed)

    def module_path(self, module: nn.Module) -> str | None:
        """Give the dotted name of a module below the container; ``None`` if it isn't there."""
        _, path = self._known.get(id(module), (None, (Item(0),)))
        if not all(isinstance(step, str) for step in path):
            found = self._search(module)
            if found is None:
                return None
            path = found
        if any("." in str(step) for step in path):
            self.refuse(f"a child's name has a dot in it: {path[-1]!r}")
        return ".".join(map(str, path))

    def tensor_path(self, tensor: torch.Tensor) -> str | None:
        """Give the dotted name of a parameter, buffer or attribute; ``None`` if no module holds it."""
        if id(tensor) not in self.tensors:
            for name, held in (*self.container.named_parameters(), *self.container.named_buffers()):
                self.tensors.setdefault(id(held), name)
        return self.tensors.get(id(tensor))

    def read(self, owner: Any, name: str, value: Any) -> None:
        """Take note of an attribute that was found on a module or object."""
        if (id(owner), name) in self._seen or _is_special(name):
            return
        if issubclass(type(owner), nn.Module):
            if name in _INTERNAL:
                if name == "_modules" and id(owner) in self._known:
                    self._read_children(owner)
                return
            path = self._path_of(owner, name)
        elif id(owner) in self._known:
            path = self._known[id(owner)][1]
        else:
            return
        self._seen.add((id(owner), name))
        if _is_state(owner, name):
            self._note(path, name, value)

    def missing(self, owner: Any, name: str) -> None:
        """Take note of an attribute that isn't found in the usual places: ``__getattr__`` may have it."""
        if (id(owner), name) in self._seen or _is_special(name):
            return
        if not issubclass(type(owner), nn.Module):
            if id(owner) in self._known and not hasattr(type(owner), "__getattr__"):
                self._seen.add((id(owner), name))
                self._guard(self._known[id(owner)][1], name, State.ABSENT)
            return
        path = self._path_of(owner, name)
        self._seen.add((id(owner), name))
        for table in _TABLES:
            held = vars_of(owner)[table]
            if name in held:
                self._read_registered(path, name, held[name])
                return
        if not _has_own_getattr(type(owner)):
            self._guard(path, name, State.ABSENT)

    def _read_registered(self, path: Path, name: str, held: nn.Module | torch.Tensor | None) -> None:
        if held is None:
            self._guard(path, name, None)
        elif isinstance(held, nn.Module):
            self._guard(path, name, State.PRESENT)
            self._know_module(held, (*path, name))
        else:
            self._know_tensor(held, path, name)

    def _read_children(self, owner: nn.Module) -> None:
        self._seen.add((id(owner), "_modules"))
        path = self._known[id(owner)][1]
        children = vars_of(owner)["_modules"]
        self._guard(path, "_modules", Children(tuple(children)))
        for name, child in children.items():
            if child is not None:
                self._know_module(child, (*path, name))

    def _path_of(self, module: nn.Module, name: str) -> Path:
        if id(module) in self._known:
            return self._known[id(module)][1]
        path = self._search(module)
        if path is None:
            self.refuse(f"it reads {name!r} of a {type(module).__name__} that isn't below it")
        self._know_module(module, path)
        return path

    def _search(self, wanted: nn.Module) -> Path | None:
        queue: deque[tuple[nn.Module, Path]] = deque([(self.container, ())])
        seen: set[int] = set()
        while queue:
            module, path = queue.popleft()
            if module is wanted:
                return path
            for name, child in vars_of(module)["_modules"].items():
                if child is not None and id(child) not in seen:
                    seen.add(id(child))
                    queue.append((child, (*path, name)))
        return None

    def _guard(self, path: Path, name: str, value: object) -> None:
        self._guards.setdefault((path, name), Guard(path, name, value))

    def _note(self, path: Path, name: str, value: Any) -> None:
        if isinstance(value, torch.Tensor):
            self._know_tensor(value, path, name)
            return
        self._guard(path, name, self._frozen(value, (*path, Attribute(name)), name))

    def _frozen(self, value: Any, path: Path, name: str) -> object:
        """Give what to compare a value with, and watch it if it can change."""
        if isinstance(value, BY_VALUE):
            return value
        if isinstance(value, CONTAINERS):
            return self._contents(value, path, name)
        if isinstance(value, nn.Module):
            self._know_module(value, path)
            return Identity(value)
        if isinstance(value, (*OPAQUE, torch.Tensor)):
            return Identity(value)
        if isinstance(value, functools.partial):
            self._note(path, "func", value.func)
            self._note(path, "args", value.args)
            self._note(path, "keywords", value.keywords)
            return Identity(value)
        if isinstance(value, types.MethodType):
            self._frozen(value.__self__, (*path, Attribute("__self__")), name)
            return Identity(value)
        if type(value) is types.SimpleNamespace:  # a C type: what it holds is compared as a whole
            self._note(path, "__dict__", vars(value))
            return OfType(type(value))
        return self._watched(value, path, name)

    def _contents(self, value: Any, path: Path, name: str) -> Contents:
        if len(value) > _MOST_ITEMS:
            self.refuse(f"it reads {name!r}, whose {len(value):,} entries are too many to compare every time")
        if len(path) > _DEEPEST:
            self.refuse(f"it reads {name!r}, which is nested too deeply")
        self._keep(name, value)
        if isinstance(value, dict):
            items = [self._frozen(item, (*path, Item(key)), name) for key, item in value.items()]
            return Contents(type(value), tuple(value), tuple(items))
        if isinstance(value, (set, frozenset)):
            return Contents(type(value), (), tuple(value))
        items = [self._frozen(item, (*path, Item(i)), name) for i, item in enumerate(value)]
        return Contents(type(value), (), tuple(items))

    def _watched(self, value: Any, path: Path, name: str) -> OfType:
        cls = type(value)
        if id(value) not in self._known:
            if not cls.__flags__ & _HEAP_TYPE or cls.__flags__ & _IMMUTABLE_TYPE:
                self.refuse(f"it reads {name!r}, a {cls.__name__}, which can't be watched")
            self._known[id(value)] = (value, path)
            with contextlib.suppress(AttributeError):  # objects with slots only have none
                self._keep(name, vars_of(value))
            if all(cls is not patched for patched, _ in self._patched):
                self._patch(cls)
        return OfType(cls)

    def _patch(self, cls: type) -> None:
        found: Any = cls.__getattribute__

        def read(self: Any, name: str) -> Any:
            try:
                value = found(self, name)
            except AttributeError:
                watch.missing(self, name)
                raise
            watch.read(self, name, value)
            return value

        watch = self
        self._patched.append((cls, vars(cls).get("__getattribute__", _MISSING)))
        type.__setattr__(cls, "__getattribute__", read)

    def _know_module(self, module: nn.Module, path: Path) -> None:
        if id(module) in self._known:
            return
        self._known[id(module)] = (module, path)
        contents = vars_of(module)
        self._keep("", contents)
        for table in _TABLES:
            if contents[table]:
                self._keep("", contents[table])

    def _know_tensor(self, tensor: torch.Tensor, path: Path, name: str) -> None:
        if all(isinstance(step, str) for step in path):
            self.tensors.setdefault(id(tensor), ".".join((*map(str, path), name)))

    def _keep(self, name: str, live: Any) -> None:
        if isinstance(live, (dict, set)):
            self._kept.append((name, live, live.copy()))
        elif isinstance(live, (list, deque)):
            self._kept.append((name, live, list(live)))


def vars_of(module: Any) -> dict[str, Any]:
    """Give an object's ``__dict__`` without being seen."""
    found: dict[str, Any] = object.__getattribute__(module, "__dict__")
    return found


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__") and name != "__dict__"


def _is_state(owner: Any, name: str) -> bool:
    """Say whether an attribute is a value that can be set, not a method or property, which read others."""
    if name == "__dict__":
        return True
    try:
        if name in vars_of(owner):
            return True
    except AttributeError:  # an object with slots only
        return True
    for cls in type(owner).__mro__:
        if name in vars(cls):
            found = vars(cls)[name]
            return isinstance(found, types.MemberDescriptorType) or not (
                isinstance(found, (types.FunctionType, functools.partialmethod))
                or hasattr(type(found), "__get__")
            )
    return True


def _has_own_getattr(cls: type) -> bool:
    for each in cls.__mro__:
        if each is nn.Module:
            return False
        if "__getattr__" in vars(each):
            return True
    return False


def _restored(name: str, live: Any, copy: Any) -> set[str]:
    """Put back what a forward changed in one dictionary, list or set, and name it."""
    if isinstance(live, dict):
        if list(live) == list(copy) and all(live[key] is copy[key] for key in copy):
            return set()
        changed = _changed_keys(live, copy)
        live.clear()
        live.update(copy)
        return {name} if name else changed
    if len(live) == len(copy) and all(one is other for one, other in zip(live, copy, strict=True)):
        return set()
    live.clear()
    live.update(copy) if isinstance(live, set) else live.extend(copy)
    return {name}


def _changed_keys(live: dict[Any, Any], copy: dict[Any, Any]) -> set[str]:
    return {str(key) for key in live.keys() | copy.keys() if live.get(key) is not copy.get(key)}

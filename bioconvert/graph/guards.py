"""What a trace depends on: Python values that were read while it was made, and how they are checked again.

Guards are checked on every call of a rewritten forward, so they are compiled to one function, which
``torch.compile`` can look into.
"""

from __future__ import annotations

import enum
import types
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

PLAIN = (bool, int, float, str, bytes, type(None))
"""What can be compared with a guard; anything else an argument may be is data."""

CONSTANTS = (torch.dtype, torch.device, torch.Size, torch.layout, torch.memory_format, complex, range)
"""What never changes and compares by value, besides :data:`PLAIN`."""

BY_VALUE = (*PLAIN, *CONSTANTS)

CONTAINERS = (list, tuple, dict, set, frozenset, deque)
"""What is compared by what it holds."""


class State(enum.Enum):
    """What can be said of an attribute without comparing its value."""

    ABSENT = "absent"
    PRESENT = "present"


@dataclass(frozen=True, slots=True)
class Attribute:
    """A step of a path: to what an attribute holds that isn't a child module."""

    name: str


@dataclass(frozen=True, slots=True)
class Item:
    """A step of a path: to what a list, tuple or dictionary holds."""

    key: Any


Step = str | Attribute | Item
Path = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Contents:
    """What a container held.

    Args:
        kind: its type.
        keys: the keys, for a dictionary.
        items: what it held, each as a value to compare with.
    """

    kind: type
    keys: tuple[object, ...]
    items: tuple[object, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Identity:
    """One particular object: what can be replaced and doesn't change."""

    value: object

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


@dataclass(frozen=True, slots=True)
class OfType:
    """Any object of one type: what is watched attribute by attribute."""

    cls: type


@dataclass(frozen=True, slots=True)
class Children:
    """The names of a module's children: what iterating over them depends on."""

    names: tuple[str, ...]


def same(value: Any, expected: Any) -> bool:
    """Say whether a value is still what a guard expects."""
    if isinstance(expected, Contents):
        return type(value) is expected.kind and _same_contents(value, expected)
    if isinstance(expected, Identity):
        return value is expected.value
    if isinstance(expected, OfType):
        return type(value) is expected.cls
    if isinstance(expected, Children):
        return tuple(value) == expected.names
    return type(value) is type(expected) and (value is expected or bool(value == expected))


def _same_contents(value: Any, expected: Contents) -> bool:
    if len(value) != len(expected.items):
        return False
    if isinstance(value, (set, frozenset)):
        return value == set(expected.items)
    if isinstance(value, dict):
        if tuple(value) != expected.keys:
            return False
        value = value.values()
    for item, was in zip(value, expected.items, strict=True):  # noqa: SIM110 - cheaper than all()
        if not same(item, was):
            return False
    return True


def is_plain(value: object) -> bool:
    """Say whether an argument can be compared by value: a plain value, or a container of plain values."""
    if isinstance(value, BY_VALUE):
        return True
    if type(value) in (list, tuple):
        return all(is_plain(item) for item in value)  # type: ignore[attr-defined]
    if type(value) is dict:
        return all(is_plain(item) for item in value.values())
    return False


def frozen_argument(value: object) -> object:
    """Give what to compare a later argument with: plain values by value, anything else by identity."""
    if type(value) in (list, tuple) and is_plain(value):
        return Contents(type(value), (), tuple(frozen_argument(item) for item in value))  # type: ignore[attr-defined]
    if type(value) is dict and is_plain(value):
        return Contents(dict, tuple(value), tuple(frozen_argument(item) for item in value.values()))
    return value if is_plain(value) else Identity(value)


@dataclass(frozen=True, slots=True)
class Guard:
    """An attribute that the forward read while it was traced, and what it was.

    Args:
        path: the steps that lead from the container to the object that holds the attribute: names of child
            modules, :class:`Attribute` and :class:`Item`.
        name: name of the attribute.
        value: its value then, or what stands for it: :class:`Contents`, :class:`Identity`, :class:`OfType`,
            :class:`Children` or :class:`State`.
    """

    path: Path
    name: str
    value: object

    def holds(self, container: nn.Module) -> bool:
        """Say whether the attribute is still what it was."""
        return checker((self,), {}, (), {})(container, {})


Check = Callable[[nn.Module, Mapping[str, Any]], bool]


def checker(
    guards: Iterable[Guard], fixed: Mapping[str, object], inputs: Iterable[str], types: Mapping[str, type]
) -> Check:
    """Compile the question whether a trace is true for a container's state and for a call's arguments.

    Args:
        guards: what must be as it was.
        fixed: the arguments that must have these values.
        inputs: the arguments that may be anything that isn't plain.
        types: those of them that must be of one type.
    """
    writer = _Writer()
    for name, value in fixed.items():
        writer.compare(f"arguments[{name!r}]", frozen_argument(value))
    for name in inputs:
        writer.refuse_if(f"is_plain(arguments[{name!r}])")
    for name, cls in types.items():
        writer.compare(f"arguments[{name!r}]", OfType(cls))
    for guard in guards:
        writer.guard(guard)
    return writer.function()


class _Writer:
    """Writes the source of a check, one line a condition."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.scope: dict[str, Any] = {"same": same, "is_plain": is_plain}
        self.variables: dict[Path, str] = {(): "container"}

    def guard(self, guard: Guard) -> None:
        owner = self._reach(guard.path)
        if guard.value is State.ABSENT:
            self.refuse_if(f"hasattr({owner}, {guard.name!r})")
        elif guard.value is State.PRESENT:
            self.refuse_if(f"{owner}._modules.get({guard.name!r}) is None")
        else:
            self.compare(f"{owner}.{guard.name}", guard.value)

    def refuse_if(self, condition: str) -> None:
        self.lines.append(f"    if {condition}: return False")

    def compare(self, source: str, value: object) -> None:
        if value is None or isinstance(value, bool):
            self.refuse_if(f"{source} is not {value}")
            return
        if isinstance(value, OfType):
            self.refuse_if(f"type({source}) is not {self._constant(value.cls)}")
        elif isinstance(value, Identity):
            self.refuse_if(f"{source} is not {self._constant(value.value)}")
        elif type(value) in (int, str):
            self.lines.append(f"    value = {source}")
            self.refuse_if(f"type(value) is not {type(value).__name__} or value != {value!r}")
        else:
            self.refuse_if(f"not same({source}, {self._constant(value)})")

    def _reach(self, path: Path) -> str:
        if path not in self.variables:
            owner, step = self._reach(path[:-1]), path[-1]
            variable = f"v{len(self.variables)}"
            if isinstance(step, Attribute):
                self.lines.append(f"    {variable} = {owner}.{step.name}")
            elif isinstance(step, Item):
                self.lines.append(f"    {variable} = {owner}[{self._constant(step.key)}]")
            else:
                self.lines.append(f"    {variable} = {owner}._modules[{step!r}]")
            self.variables[path] = variable
        return self.variables[path]

    def _constant(self, value: object) -> str:
        name = f"c{len(self.scope)}"
        self.scope[name] = value
        return name

    def function(self) -> Check:
        source = "\n".join(("def holds(container, arguments):", *self.lines, "    return True"))
        exec(source, self.scope)
        found: Check = self.scope["holds"]
        return found


OPAQUE = (
    type,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.ModuleType,
    enum.Enum,
    torch.Generator,
    type(torch.finfo(torch.float32)),
    type(torch.ops.aten.relu.default),
    type(torch.ops.aten.relu),
)
"""What is compared by identity: it can be replaced, and what it holds isn't read as a value."""

"""Tracing one container with its children as leaves, and noting what the trace depends on.

A trace is true only for the Python values that were seen while it was made: flags such as ``self.training``,
and arguments that were left at their defaults. Those are recorded as guards.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from bioconvert.core.errors import first_line

PLAIN = (bool, int, float, str, bytes, type(None))
"""What can be compared with a guard; anything else an argument may be is data."""


class Untraceable(Exception):  # noqa: N818 - ordinary control flow, named for what it says
    """Raised for a container whose forward can't be traced; carries the reason."""


@dataclass(frozen=True, slots=True)
class Guard:
    """A plain attribute that the forward read while it was traced, and the value it had.

    Args:
        path: names of the children that lead from the container to the module that holds the attribute.
        name: name of the attribute.
        value: its value then.
    """

    path: tuple[str, ...]
    name: str
    value: object

    def holds(self, container: nn.Module) -> bool:
        """Say whether the attribute still has that value."""
        module: Any = container
        for name in self.path:
            module = module._modules[name]
        value = getattr(module, self.name)
        return value is self.value or (type(value) is type(self.value) and bool(value == self.value))


@dataclass(frozen=True, slots=True)
class Trace:
    """The graph of one container's forward, and what it is true for.

    Args:
        graph: the graph; its placeholders are ``inputs``.
        inputs: names of the arguments that were symbolic.
        fixed: the other arguments, with the values that were given to them.
        guards: the attributes that were read.
    """

    graph: fx.Graph
    inputs: tuple[str, ...]
    fixed: Mapping[str, object]
    guards: tuple[Guard, ...]


class _Tracer(fx.Tracer):
    # A buffer that the forward changes must show in the graph, or be refused; never be changed while tracing.
    proxy_buffer_attributes = True

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002
        return True


def forward_signature(container: nn.Module) -> inspect.Signature:
    """Give the signature of a container's forward, without ``self``.

    Raises:
        Untraceable: it takes ``*args`` or ``**kwargs``, so that its arguments have no names of their own.
    """
    signature = inspect.signature(type(container).forward)
    parameters = list(signature.parameters.values())[1:]
    for parameter in parameters:
        if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            raise Untraceable(f"its forward takes {parameter}")
    return signature.replace(parameters=parameters)


def default_arguments(container: nn.Module) -> dict[str, object]:
    """Give the arguments of a container's forward that have defaults, with these."""
    parameters = forward_signature(container).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


def trace(container: nn.Module, fixed: Mapping[str, object] | None = None) -> Trace:
    """Trace a container's forward with every child as a leaf, in the state that it is in.

    Args:
        container: the module; it is the same afterwards.
        fixed: arguments that keep a Python value; by default those that have a default, at that default.

    Raises:
        Untraceable: the forward looks at the values of tensors, changes the module, or does what fx can't
            follow.
    """
    if "forward" in vars(container):
        raise Untraceable("its forward is set on the instance")
    parameters = forward_signature(container).parameters
    fixed = default_arguments(container) if fixed is None else fixed
    inputs = tuple(name for name in parameters if name not in fixed)
    before = _contents(container)
    try:
        with recorded_reads(container) as reads, _forward_taking(container, inputs, fixed):
            graph = _Tracer().trace(container)
    except Exception as error:  # the user's code: whatever it raises means "can't be traced"
        raise Untraceable(_reason(error)) from error
    finally:
        changed = _restore(before)
    if changed:
        raise Untraceable(f"its forward sets {', '.join(changed)}")
    return Trace(graph, inputs, dict(fixed), tuple(reads))


def set_training(module: nn.Module, mode: bool) -> None:
    """Set one module's train flag, past any ``__setattr__`` of its own."""
    if "training" in vars(module):
        vars(module)["training"] = mode
    else:  # a scripted module keeps it elsewhere
        module.training = mode


def _reason(error: Exception) -> str:
    return f"torch.fx can't trace its forward ({first_line(error)})"


_TABLES = ("_parameters", "_buffers", "_modules")


def _contents(container: nn.Module) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Give the dictionaries that a forward could change, each with a copy."""
    live = [vars(container), *(vars(container)[table] for table in _TABLES)]
    return [(contents, dict(contents)) for contents in live]


def _restore(before: list[tuple[dict[str, Any], dict[str, Any]]]) -> list[str]:
    """Put back what a forward changed in its container, and name it."""
    changed: set[str] = set()
    for live, copy in before:
        if list(live) != list(copy) or any(live[name] is not copy[name] for name in copy):
            changed |= {name for name in live.keys() | copy.keys() if live.get(name) is not copy.get(name)}
            live.clear()
            live.update(copy)
    return sorted(changed)


@contextmanager
def recorded_reads(container: nn.Module) -> Iterator[list[Guard]]:
    """Collect the plain attributes that are read of a container and what it holds."""
    paths = {id(module): tuple(name.split(".")) if name else () for name, module in container.named_modules()}
    found: dict[tuple[tuple[str, ...], str], Guard] = {}
    guards: list[Guard] = []

    def read(self: nn.Module, name: str) -> Any:
        contents = object.__getattribute__(self, "__dict__")
        if id(self) in paths and not name.startswith("_"):
            value = contents.get(name, _absent(contents, name))
            if isinstance(value, PLAIN) and (paths[id(self)], name) not in found:
                guard = Guard(paths[id(self)], name, value)
                found[guard.path, name] = guard
                guards.append(guard)
        return object.__getattribute__(self, name)

    # Attributes in __dict__ never reach __getattr__: only __getattribute__ sees them being read.
    setattr(nn.Module, "__getattribute__", read)  # noqa: B010 - mypy refuses the plain assignment
    try:
        yield guards
    finally:
        del nn.Module.__getattribute__


def _absent(contents: Mapping[str, Any], name: str) -> object:
    """Give ``None`` for a child or parameter that is registered as None, else something that isn't plain."""
    for table in _TABLES:
        held = contents.get(table, {})
        if name in held and held[name] is None:
            return None
    return contents


@contextmanager
def _forward_taking(
    container: nn.Module, inputs: tuple[str, ...], fixed: Mapping[str, object]
) -> Iterator[None]:
    """Let the container's forward take ``inputs`` alone, so that fx makes placeholders of nothing else."""
    cls = type(container)
    passed = ", ".join(_passed(p, fixed) for p in forward_signature(container).parameters.values())
    taken = ", ".join(("self", *inputs))
    scope: dict[str, Any] = {"_forward": cls.forward, "_fixed": fixed}
    exec(f"def forward({taken}):\n    return _forward(self, {passed})", scope)
    narrowed = type(cls.__name__, (cls,), {"forward": scope["forward"], "__module__": cls.__module__})
    object.__setattr__(container, "__class__", narrowed)
    try:
        yield
    finally:
        object.__setattr__(container, "__class__", cls)


def _passed(parameter: inspect.Parameter, fixed: Mapping[str, object]) -> str:
    value = f"_fixed[{parameter.name!r}]" if parameter.name in fixed else parameter.name
    keyword = parameter.kind is inspect.Parameter.KEYWORD_ONLY
    return f"{parameter.name}={value}" if keyword else value

"""Giving one container a rewritten forward: its own, with calls left out.

The generated code is true for the Python values seen while tracing. Whenever a flag or argument has another
value, the original forward is traced again with that value, and the same edits are made.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import linecache
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from bioconvert.graph.classes import Recipe, made_class
from bioconvert.graph.edits import Edit
from bioconvert.graph.flow import trace_variants
from bioconvert.graph.trace import PLAIN, Trace, trace

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class _Variant:
    """One generated forward and what it is true for."""

    trace: Trace
    forward: Callable[..., Any]

    def holds(self, container: nn.Module, arguments: Mapping[str, Any]) -> bool:
        for name, value in self.trace.fixed.items():
            if not _same(arguments[name], value):
                return False
        for name in self.trace.inputs:
            if isinstance(arguments[name], PLAIN):
                return False
        return all(guard.holds(container) for guard in self.trace.guards)

    def run(self, container: nn.Module, arguments: Mapping[str, Any]) -> Any:
        return self.forward(container, **{name: arguments[name] for name in self.trace.inputs})


def _same(one: object, other: object) -> bool:
    return one is other or (isinstance(other, PLAIN) and type(one) is type(other) and one == other)


@dataclass
class Rewrite:
    """The rewritten forward of one container.

    Args:
        base: the container's own class.
        edits: what is changed in each graph.
    """

    base: type[nn.Module]
    edits: tuple[Edit, ...]
    _variants: list[_Variant] = field(default_factory=list)

    def prepare(self, container: nn.Module) -> None:
        """Generate the forward for training and evaluation, so that no call has to.

        Raises:
            Untraceable: the container can't be traced, or an edit finds nothing to edit.
        """
        with_base = _as(container, self.base, lambda: trace_variants(container))
        self._variants = [self._generate(container, traced, strict=True) for traced in with_base]

    def __call__(self, container: nn.Module, arguments: Mapping[str, Any]) -> Any:
        """Run the forward that is true for the container's flags and these arguments."""
        for variant in self._variants:
            if variant.holds(container, arguments):
                return variant.run(container, arguments)
        return self._specialise(container, arguments).run(container, arguments)

    def _specialise(self, container: nn.Module, arguments: Mapping[str, Any]) -> _Variant:
        fixed = {name: value for name, value in arguments.items() if isinstance(value, PLAIN)}
        traced = _as(container, self.base, lambda: trace(container, fixed))
        variant = self._generate(container, traced, strict=False)
        self._variants.append(variant)
        return variant

    def _generate(self, container: nn.Module, traced: Trace, *, strict: bool) -> _Variant:
        for edit in self.edits:
            edit.apply(traced.graph, container, strict=strict)
        traced.graph.lint()
        code = traced.graph.python_code("self")
        filename = f"<rewritten forward {next(_numbers)} of {self.base.__name__}>"
        # With its lines in linecache, a traceback through the generated code shows them.
        linecache.cache[filename] = (len(code.src), None, code.src.splitlines(keepends=True), filename)
        scope = dict(code.globals)
        exec(compile(code.src, filename, "exec"), scope)
        return _Variant(traced, scope["forward"])


def _as(container: nn.Module, cls: type[nn.Module], do: Callable[[], Any]) -> Any:
    """Do something while the container is of another class."""
    own = type(container)
    object.__setattr__(container, "__class__", cls)
    try:
        return do()
    finally:
        object.__setattr__(container, "__class__", own)


def rewritten_class(base: type[nn.Module], edits: tuple[Edit, ...]) -> type[nn.Module]:
    """Make a class for one container: ``base`` with its forward rewritten; name and signature are kept."""
    rewrite = Rewrite(base, edits)

    def set_state(self: nn.Module, state: dict[str, Any]) -> None:
        base.__setstate__(self, state)  # type: ignore[no-untyped-call]
        rewrite.prepare(self)

    namespace = {
        "forward": _forward_like(base, rewrite),
        "__setstate__": set_state,
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
        "_bioconvert_rewrite": rewrite,
    }
    return made_class(base.__name__, (base,), namespace, Recipe(rewritten_class, (base, edits)))


def rewrite_of(cls: type) -> Rewrite:
    """Give the rewrite that a class made by :func:`rewritten_class` carries out."""
    rewrite: Rewrite = vars(cls)["_bioconvert_rewrite"]
    return rewrite


def _forward_like(base: type[nn.Module], rewrite: Rewrite) -> Callable[..., Any]:
    """Write a forward with the signature of the original, so that calls bind their arguments as before."""
    parameters = inspect.signature(base.forward).parameters
    names = list(parameters)[1:]
    defaults = {
        n: parameters[n].default for n in names if parameters[n].default is not inspect.Parameter.empty
    }
    bare = [
        p.replace(
            annotation=inspect.Parameter.empty, default=_Default(p.name) if p.name in defaults else p.empty
        )
        for p in parameters.values()
    ]
    packed = ", ".join(f"{name!r}: {name}" for name in names)
    source = (
        f"def forward{inspect.Signature(bare)}:\n    return _rewrite({next(iter(parameters))}, {{{packed}}})"
    )
    scope: dict[str, Any] = {"_rewrite": rewrite, "_defaults": defaults}
    exec(source, scope)
    forward: Callable[..., Any] = functools.wraps(base.forward)(scope["forward"])
    return forward


class _Default:
    """Stands for a default value in a signature that is turned into source."""

    def __init__(self, name: str):
        self.name = name

    def __repr__(self) -> str:
        return f"_defaults[{self.name!r}]"

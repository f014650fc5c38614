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
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from bioconvert.graph.arguments import NO_EXTRA, Extra, Layout, forward_signature, full_signature
from bioconvert.graph.classes import Recipe, disguised_class
from bioconvert.graph.edits import Edit
from bioconvert.graph.flow import trace_variants
from bioconvert.graph.grown import without_grown
from bioconvert.graph.guards import Check, checker, is_plain
from bioconvert.graph.skipping import skipping
from bioconvert.graph.trace import Trace, Untraceable, trace

_numbers = itertools.count(1)
_MOST_VARIANTS = 64
"""Forwards that are kept for one container; beyond it, the oldest made for a call goes."""


@dataclass(frozen=True, slots=True)
class _Variant:
    """One generated forward and what it is true for."""

    trace: Trace
    forward: Callable[..., Any]
    holds: Check

    def run(self, container: nn.Module, arguments: Mapping[str, Any]) -> Any:
        return self.forward(container, *[arguments[name] for name in self.trace.inputs])


@dataclass
class Rewrite:
    """The rewritten forward of one container.

    Args:
        base: the container's own class.
        edits: what is changed in each graph.
    """

    base: type[nn.Module]
    edits: tuple[Edit, ...]
    signature: inspect.Signature = field(init=False)
    _variants: list[_Variant] = field(default_factory=list)
    _prepared: int = 0
    _unwritable: set[tuple[Any, ...]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.signature = forward_signature(self.base)

    def prepare(self, container: nn.Module) -> None:
        """Generate the forward for training and evaluation, so that no call has to.

        Raises:
            Untraceable: the container can't be traced, or an edit finds nothing to edit.
        """
        with_base = _as(container, self.base, lambda: trace_variants(container))
        self._variants = [self._generate(container, traced, strict=True) for traced in with_base]
        self._prepared = len(self._variants)

    def __call__(
        self,
        container: nn.Module,
        arguments: Mapping[str, Any],
        positional: tuple[Any, ...] = (),
        keywords: Mapping[str, Any] = MappingProxyType({}),
    ) -> Any:
        """Run the forward that is true for the container's flags and these arguments.

        Args:
            container: the module.
            arguments: what the signature names.
            positional: what goes into ``*args``.
            keywords: what goes into ``**kwargs``.

        Where none can be made for these, the container's own forward runs, and what the edits leave out is
        left out as it comes.

        Raises:
            Untraceable: none can be made, and the call is being compiled.
        """
        extra = NO_EXTRA
        if positional or keywords:
            extra = Extra(len(positional), tuple(keywords))
            arguments = Layout.of(self.signature, extra).flat(arguments, positional, keywords)
        for variant in self._variants:
            if variant.trace.extra == extra and variant.holds(container, arguments):
                return variant.run(container, arguments)
        kind = (extra, container.training, tuple(n for n, value in arguments.items() if is_plain(value)))
        if kind not in self._unwritable:
            try:
                return self._specialise(container, arguments, extra).run(container, arguments)
            except Untraceable:
                if torch.compiler.is_compiling():
                    raise
                self._unwritable.add(kind)
        args, kwargs = Layout.of(self.signature, extra).spread(arguments)
        with skipping(container, self.edits, arguments):
            return self.base.forward(container, *args, **kwargs)

    def _specialise(self, container: nn.Module, arguments: Mapping[str, Any], extra: Extra) -> _Variant:
        fixed = {name: value for name, value in arguments.items() if is_plain(value)}
        types = {name: type(value) for name, value in arguments.items()}
        try:
            traced = _as(container, self.base, lambda: trace(container, fixed, extra, types))
        except Untraceable as reason:
            if extra != NO_EXTRA and isinstance(reason.__cause__, TypeError):
                raise reason.__cause__ from None  # a decorator took the arguments, the forward didn't
            raise Untraceable(
                f"{self.base.__name__} was rewritten, and can't be for other flags or arguments: {reason}"
            ) from reason
        variant = self._generate(container, traced, strict=False)
        if len(self._variants) >= _MOST_VARIANTS:
            del self._variants[self._prepared]
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
        holds = checker(traced.guards, traced.fixed, traced.inputs, traced.types)
        return _Variant(traced, scope["forward"], holds)


def _as(container: nn.Module, cls: type[nn.Module], do: Callable[[], Any]) -> Any:
    """Do something while the container is of another class."""
    own = type(container)
    object.__setattr__(container, "__class__", cls)
    try:
        with without_grown(container, own):
            return do()
    finally:
        object.__setattr__(container, "__class__", own)


def rewritten_class(base: type[nn.Module], edits: tuple[Edit, ...]) -> type[nn.Module]:
    """Make a class for one container: ``base`` with its forward rewritten; name and signature are kept."""
    rewrite = Rewrite(base, edits)

    def set_state(self: nn.Module, state: dict[str, Any]) -> None:
        base.__setstate__(self, state)  # type: ignore[no-untyped-call]
        rewrite.prepare(self)

    recipe = Recipe(rewritten_class, (base, edits))
    members = {"__setstate__": set_state, "_bioconvert_rewrite": rewrite}
    return disguised_class(base, _forward_like(base, rewrite), recipe, **members)


def rewrite_of(cls: type) -> Rewrite:
    """Give the rewrite that a class made by :func:`rewritten_class` carries out."""
    rewrite: Rewrite = vars(cls)["_bioconvert_rewrite"]
    return rewrite


def _forward_like(base: type[nn.Module], rewrite: Rewrite) -> Callable[..., Any]:
    """Write a forward with the signature of the original, so that calls bind their arguments as before."""
    parameters = list(full_signature(base.forward).parameters.values())
    bare = [_bare(parameter) for parameter in parameters]
    named = [p.name for p in parameters[1:] if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    packed = ", ".join(f"{name!r}: {name}" for name in named)
    rest = [f", positional={p.name}" for p in parameters if p.kind is p.VAR_POSITIONAL]
    rest += [f", keywords={p.name}" for p in parameters if p.kind is p.VAR_KEYWORD]
    call = f"_rewrite({parameters[0].name}, {{{packed}}}{''.join(rest)})"
    scope: dict[str, Any] = {"_rewrite": rewrite, "_defaults": {p.name: p.default for p in parameters}}
    exec(f"def forward{inspect.Signature(bare)}:\n    return {call}", scope)
    forward: Callable[..., Any] = functools.wraps(base.forward)(scope["forward"])
    return forward


def _bare(parameter: inspect.Parameter) -> inspect.Parameter:
    """Give a parameter as its signature's source has it: without annotation, its default by name."""
    default = parameter.empty if parameter.default is parameter.empty else _Default(parameter.name)
    return parameter.replace(annotation=parameter.empty, default=default)


class _Default:
    """Stands for a default value in a signature that is turned into source."""

    def __init__(self, name: str):
        self.name = name

    def __repr__(self) -> str:
        return f"_defaults[{self.name!r}]"

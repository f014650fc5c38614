"""The arguments of a forward by name, ``*args`` and ``**kwargs`` included."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

Kind = inspect.Parameter


@dataclass(frozen=True, slots=True)
class Extra:
    """The arguments of one kind of call that the signature has no names for.

    Args:
        positional: how many go into ``*args``.
        keywords: which go into ``**kwargs``, in order.
    """

    positional: int = 0
    keywords: tuple[str, ...] = ()


NO_EXTRA = Extra()


def forward_signature(cls: type[nn.Module]) -> inspect.Signature:
    """Give the signature of a class's forward, without ``self``; see :func:`full_signature`."""
    signature = full_signature(cls.forward)
    return signature.replace(parameters=list(signature.parameters.values())[1:])


@functools.lru_cache(maxsize=1024)
def full_signature(forward: Callable[..., Any]) -> inspect.Signature:
    """Give the signature that calls of a forward are bound by.

    That of what a decorator wraps, and the ``*args`` and ``**kwargs`` that the decorator takes besides.
    """
    inner, outer = inspect.signature(forward), inspect.signature(forward, follow_wrapped=False)
    kinds = {parameter.kind for parameter in inner.parameters.values()}
    added = [
        parameter
        for parameter in outer.parameters.values()
        if parameter.kind in (Kind.VAR_POSITIONAL, Kind.VAR_KEYWORD) and parameter.kind not in kinds
    ]
    taken = set(inner.parameters)
    added = [parameter.replace(name=_fresh(parameter.name, taken)) for parameter in added]
    return inner.replace(parameters=sorted((*inner.parameters.values(), *added), key=lambda p: p.kind))


def default_arguments(container: nn.Module) -> dict[str, object]:
    """Give the arguments of a container's forward that have defaults, with these.

    Tensors are data; so is the first argument where all have defaults, as in ``forward(input_ids=None)``.
    """
    parameters = list(forward_signature(type(container)).parameters.values())
    named = [p for p in parameters if p.kind not in (Kind.VAR_POSITIONAL, Kind.VAR_KEYWORD)]
    data = [p.name for p in named[:1]] if all(p.default is not Kind.empty for p in named) else []
    return {
        parameter.name: parameter.default
        for parameter in named
        if parameter.default is not Kind.empty
        and parameter.name not in data
        and not isinstance(parameter.default, Tensor)
    }


@dataclass(frozen=True, slots=True)
class Layout:
    """The names that a call's arguments go by: those of the signature, and made ones for the extra.

    Args:
        signature: the signature, without ``self``.
        named: the parameters that the signature names.
        positional: names for what goes into ``*args``.
        keywords: keywords that go into ``**kwargs``, with a name for each.
    """

    signature: inspect.Signature
    named: tuple[str, ...]
    positional: tuple[str, ...]
    keywords: Mapping[str, str]

    @classmethod
    def of(cls, signature: inspect.Signature, extra: Extra = NO_EXTRA) -> Layout:
        """Name the arguments of one kind of call."""
        parameters = signature.parameters.values()
        named = tuple(p.name for p in parameters if p.kind not in (Kind.VAR_POSITIONAL, Kind.VAR_KEYWORD))
        taken = set(named)
        rest = {p.kind: p.name for p in parameters}
        positional = tuple(_fresh(f"{rest[Kind.VAR_POSITIONAL]}_{i}", taken) for i in range(extra.positional))
        keywords = {key: _fresh(f"{rest[Kind.VAR_KEYWORD]}_{_letters(key)}", taken) for key in extra.keywords}
        return cls(signature, named, positional, keywords)

    @property
    def names(self) -> tuple[str, ...]:
        """All names, in order."""
        return (*self.named, *self.positional, *self.keywords.values())

    def flat(
        self, arguments: Mapping[str, Any], positional: tuple[Any, ...], keywords: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Give all arguments of a call by these names."""
        flat = dict(arguments)
        flat.update(zip(self.positional, positional, strict=True))
        flat.update((self.keywords[key], value) for key, value in keywords.items())
        return flat

    def spread(self, values: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Give the positional and keyword arguments of a call from values by these names.

        Arguments with defaults go by keyword where they can: decorators look for them there.
        """
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for parameter in self.signature.parameters.values():
            if self._goes_by_position(parameter):
                args.append(values[parameter.name])
            elif parameter.kind is Kind.VAR_POSITIONAL:
                args.extend(values[name] for name in self.positional)
            elif parameter.kind is not Kind.VAR_KEYWORD:
                kwargs[parameter.name] = values[parameter.name]
            else:
                kwargs.update((key, values[name]) for key, name in self.keywords.items())
        return args, kwargs

    def _goes_by_position(self, parameter: inspect.Parameter) -> bool:
        if parameter.kind is Kind.POSITIONAL_OR_KEYWORD:
            return parameter.default is Kind.empty or bool(self.positional)
        return parameter.kind is Kind.POSITIONAL_ONLY


def _letters(key: str) -> str:
    return "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in key)


def _fresh(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name

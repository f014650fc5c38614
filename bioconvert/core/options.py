"""Options of a layer, mechanism or node, read off the signature of the function that builds it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, create_model

Builder = Callable[..., Any]


@functools.cache
def options_model(build: Builder) -> type[BaseModel]:
    """Give the pydantic model of a builder's keyword-only parameters: their types, bounds and defaults.

    The positional parameters are never evaluated, so that their annotations may name what is imported for
    type checking only.
    """
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(build).parameters.items():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            required = parameter.default is inspect.Parameter.empty
            fields[name] = (_annotation(build, parameter), ... if required else parameter.default)
    config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)
    return create_model(f"{getattr(build, '__name__', 'builder')}_options", __config__=config, **fields)


def _annotation(build: Builder, parameter: inspect.Parameter) -> Any:
    if isinstance(parameter.annotation, str):
        function = inspect.unwrap(build)
        return eval(parameter.annotation, getattr(function, "__globals__", {}))
    return Any if parameter.annotation is inspect.Parameter.empty else parameter.annotation


def option_names(build: Builder) -> tuple[str, ...]:
    """Name a builder's options, in the order of its signature."""
    return tuple(options_model(build).model_fields)


def checked_options(build: Builder, given: Mapping[str, object]) -> dict[str, object]:
    """Give the options to call ``build`` with, defaults filled in.

    Raises:
        pydantic.ValidationError: an unknown option, or a value of the wrong type or out of bounds.
    """
    return dict(options_model(build).model_validate(dict(given)))

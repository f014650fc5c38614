"""Staying one call in a user's own ``torch.fx`` trace, as every module of torch does."""

from __future__ import annotations

from collections.abc import Iterable

from torch import fx, nn


def traced_call(module: nn.Module, *arguments: object, **keywords: object) -> fx.Proxy | None:
    """Record the call of a module whose forward can't be traced, where its arguments are symbolic.

    Returns:
        What stands for the output; ``None`` where there is nothing to record, because nothing is symbolic or
        because the module itself is what is traced.
    """
    tracer = tracer_of((*arguments, *keywords.values()))
    if not isinstance(tracer, fx.Tracer) or tracer.root is module:
        return None
    return tracer.create_proxy("call_module", tracer.path_of_module(module), arguments, keywords)


def tracer_of(arguments: Iterable[object]) -> object:
    """Give who records what is done with arguments, if they are symbolic; else ``None``."""
    return next((each.tracer for each in arguments if isinstance(each, fx.Proxy)), None)

"""Models of transformers take note of what their blocks give; a branch's block is none of these."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

_RECORDS = "transformers.utils.output_capturing"


def run_unrecorded(run: Callable[..., Any], args: Iterable[Any], kwargs: Mapping[str, Any]) -> Any:
    """Run what is to leave no note, as hidden states or attention weights of the model.

    The list of hidden states would otherwise be longer than the model has layers.

    Args:
        run: a module, or anything that can be called.
        args: its positional arguments.
        kwargs: its keyword arguments.
    """
    collector: Any = getattr(sys.modules.get(_RECORDS), "_active_collector", None)
    # What compiles a block alone can't look into the collector, which is open then for whole models only.
    closed = collector is None or (torch.compiler.is_compiling() and not collector.compiling)
    noted = None if closed else collector.get()
    if noted is None:
        return run(*args, **kwargs)
    collector.set(None)
    try:
        return run(*args, **kwargs)
    finally:
        collector.set(noted)

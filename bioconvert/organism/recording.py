"""Models of transformers take note of what their blocks give; a branch's block is none of these."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_RECORDS = "transformers.utils.output_capturing"


@contextmanager
def unrecorded() -> Iterator[None]:
    """Let nothing be noted of what runs, as hidden states or attention weights of the model, for a while.

    The list of hidden states would otherwise be longer than the model has layers.
    """
    collector: Any = getattr(sys.modules.get(_RECORDS), "_active_collector", None)
    # What compiles a block alone can't look into the collector, which is open then for whole models only.
    closed = collector is None or (torch.compiler.is_compiling() and not collector.compiling)
    noted = None if closed else collector.get()
    if noted is None:
        yield
        return
    collector.set(None)
    try:
        yield
    finally:
        collector.set(noted)

"""The type a score is computed in, and the type it is given back in."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

_HALF = (torch.float16, torch.bfloat16)


def score_dtype(x: torch.Tensor) -> torch.dtype:
    """Give the type to compute in: that of ``x``, but fp32 for half precision.

    A squared distance is a small difference of large numbers, which half precision rounds to nothing.
    """
    return torch.float32 if x.dtype in _HALF else x.dtype


def _under_autocast(x: torch.Tensor) -> bool:
    device = x.device.type
    return device != "meta" and torch.is_autocast_enabled(device)


def output_dtype(x: torch.Tensor) -> torch.dtype:
    """Give the type of the output: that of ``x``, or what autocast would give a matrix product."""
    if x.dtype != torch.float64 and _under_autocast(x):
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype


def without_autocast(x: torch.Tensor) -> AbstractContextManager[object]:
    """Give the context in which autocast doesn't lower the score's precision."""
    if _under_autocast(x):
        return torch.autocast(x.device.type, enabled=False)
    return nullcontext()


def narrowed(y: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Convert an output; what is too large for fp16 becomes its largest number instead of infinity."""
    if dtype == torch.float16:
        y = y.clamp(max=torch.finfo(dtype).max)
    return y.to(dtype)

"""Which way a computation may go: values looked at and buffers reused, or nothing but plain operations."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch.autograd import forward_ad
from torch.utils._python_dispatch import _get_current_dispatch_mode


def is_transformed() -> bool:
    """Say whether ``torch.func`` is at work, whose tensors have no memory of their own to write to.

    There is no public question for it; this one is what ``torch.autograd.Function`` itself asks.
    """
    return torch._C._are_functorch_transforms_active()


def is_recorded() -> bool:
    """Say whether operations are being compiled, exported or traced, so that values can't be looked at."""
    return torch.compiler.is_compiling() or torch._C._is_tracing() or _get_current_dispatch_mode() is not None


def is_batched(grad: torch.Tensor) -> bool:
    """Say whether a gradient stands for a batch of them, as with ``is_grads_batched`` or ``torch.func``."""
    return is_transformed() or torch._C._functorch.is_legacy_batchedtensor(grad)


def wants_plain_operations(tensors: Iterable[torch.Tensor]) -> bool:
    """Say whether operations are being recorded or transformed: compiled, exported, traced, batched, dual."""
    return (
        torch.compiler.is_compiling()
        or torch._C._is_tracing()
        or is_transformed()
        or any(_has_tangent(tensor) for tensor in tensors)
    )


def has_values(tensor: torch.Tensor) -> bool:
    """Say whether a tensor's values can be looked at for free: a CPU tensor that no mode stands in for.

    On an accelerator a look costs a synchronisation; a fake or traced tensor has no values to look at.
    """
    return tensor.device.type == "cpu" and _get_current_dispatch_mode() is None


def _has_tangent(tensor: torch.Tensor) -> bool:
    return forward_ad.unpack_dual(tensor).tangent is not None  # type: ignore[no-untyped-call]

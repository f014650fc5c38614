"""Gradients by way of plain operations: for a backward that has a graph of its own, or comes in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch

from bioconvert.functional.eager import is_batched


def wants_recomputation(grads: Iterable[torch.Tensor]) -> bool:
    """Say whether a backward can't write to memory: it is recorded, or the gradients stand for batches."""
    return torch.is_grad_enabled() or any(is_batched(grad) for grad in grads)


def recomputed(
    plain: Callable[..., torch.Tensor | tuple[torch.Tensor, ...]],
    operands: Sequence[torch.Tensor],
    grads: Sequence[torch.Tensor],
) -> tuple[torch.Tensor | None, ...]:
    """Differentiate the plain operations.

    Args:
        plain: what gives the outputs again.
        operands: its arguments.
        grads: the gradients of the outputs.

    Returns:
        The gradients of the operands, ``None`` for one that needs none.
    """
    graph = torch.is_grad_enabled()
    with torch.enable_grad():
        views = [operand.view_as(operand) for operand in operands]
        outputs = plain(*views)
    wanted = [view for view in views if view.requires_grad]
    found = iter(torch.autograd.grad(outputs, wanted, grads, create_graph=graph))
    return tuple(next(found) if view.requires_grad else None for view in views)

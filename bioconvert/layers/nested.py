"""Nested tensors for layers that compute on padded ones."""

from __future__ import annotations

import torch


def padded(nested: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Give sequences of different lengths as one tensor, zeros behind their ends.

    Returns:
        The sequences :math:`(N, L, E)`, and a mask :math:`(N, L)` that is True behind the ends.

    Raises:
        TypeError: the tensor has the jagged layout.
    """
    if nested.layout is not torch.strided:
        raise TypeError(f"a nested tensor must have the layout torch.strided here, not {nested.layout}")
    filled = torch.nested.to_padded_tensor(nested, 0.0)
    lengths = torch.tensor([part.size(0) for part in nested.unbind()], device=filled.device)
    positions = torch.arange(filled.size(1), device=filled.device)
    return filled, positions >= lengths[:, None]


def nested(filled: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:
    """Undo :func:`padded`: leave out what lies behind the ends of the sequences."""
    lengths = padding.logical_not().sum(dim=1).tolist()
    parts = [sequence[:length] for sequence, length in zip(filled.unbind(), lengths, strict=True)]
    return torch.nested.as_nested_tensor(parts)

"""What the Yat product asks of the linear map that it is put upon."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch

SquaredSum = Callable[[torch.Tensor, int], torch.Tensor]
"""Sums the squares of a tensor along one dimension, which stays with size 1."""


class LinearMap(Protocol):
    """A map that is linear in input and weight, channels in dimension 1.

    Each output is the dot product of a part of the input and a part of the weight; with the squared norms of
    these two it has a distance.
    """

    @property
    def groups(self) -> int:
        """Number of groups of channels."""
        ...

    def score(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Give the dot products."""
        ...

    def pull_back(
        self, grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, needed: Sequence[bool]
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Give the gradients of ``x`` and ``weight``, where needed, for one of the scores."""
        ...

    def input_norm(self, squares: torch.Tensor) -> torch.Tensor:
        """Give each output's squared norm of the input from that of each point, a channel for a group."""
        ...

    def pull_back_input_norm(self, grad: torch.Tensor, lengths: torch.Size) -> torch.Tensor:
        """Give the gradient of the points' squared norms, ``lengths`` of them in space."""
        ...

    def weight_norm(self, weight: torch.Tensor, lengths: torch.Size, squared_sum: SquaredSum) -> torch.Tensor:
        """Give the squared norms of the weight, for an input with these ``lengths`` in space."""
        ...

    def add_weight_norm_gradient(
        self, by_weight: torch.Tensor, grad: torch.Tensor, weight: torch.Tensor, lengths: torch.Size
    ) -> None:
        """Add to the weight's gradient what comes to it through its squared norms."""
        ...

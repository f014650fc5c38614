"""What a new branch could learn at each node: the gradient that it would get (GradMax's criterion)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from bioconvert.organism.merging import first_floating
from bioconvert.organism.pooling import PICTURE, pooled
from bioconvert.organism.seats import Seat

_ROUNDS = 10
"""Of power iteration: the order of nodes is wanted, not their last digit."""
_TURN = 2.399963
"""The golden angle, in radians: its multiples never come back to where they were."""


class Watch:
    r"""Measures, in every backward pass, the gradient of a branch that a node doesn't have.

    .. math::
        s = \max_{\lVert A \rVert = 1} \left\lVert \sum_n g_n (A x_n)^\top \right\rVert
          = \left\lVert \sum_n g_n x_n^\top \right\rVert_2

    where :math:`x_n` is what goes into the node and :math:`g_n` the gradient at what comes out: the largest
    gradient that the last weight of a new branch, still zero, could get by a choice of the weights before it.

    Args:
        seats: the nodes, by ``id``.

    Reference:
        Evci et al., *GradMax: Growing Neural Networks using Gradient Information*,
        https://arxiv.org/abs/2201.05125
    """

    def __init__(self, seats: Mapping[str, Seat]):
        self.ids = list(seats)
        self._scores: dict[str, torch.Tensor] = {}
        self._handles = [
            seat.node.register_forward_hook(_Hook(self._scores, name), with_kwargs=True)
            for name, seat in seats.items()
        ]

    def scores(self) -> list[torch.Tensor]:
        """Give what the last backward passes came to, in the order of the ids, and forget it."""
        zero = torch.zeros(())
        found = [self._scores.get(name, zero) for name in self.ids]
        self._scores.clear()
        return found

    def remove(self) -> None:
        """Watch no more."""
        for handle in self._handles:
            handle.remove()


class _Hook:
    """Sees one node; a copy of the node, as a branch of it is, is not seen."""

    def __init__(self, scores: dict[str, torch.Tensor] | None, name: str):
        self._found = scores
        self.name = name

    def __call__(self, _: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        y = first_floating(output)
        if self._found is None or y is None or not y.requires_grad:
            return
        given = first_floating([*args, kwargs])
        x = None if given is None else given.detach()
        y.register_hook(lambda gradient: self._note(x, gradient))  # type: ignore[no-untyped-call]

    def __deepcopy__(self, memo: Any) -> _Hook:
        return _Hook(None, self.name)

    def __reduce__(self) -> Any:
        return _Hook, (None, self.name)

    def _note(self, x: torch.Tensor | None, gradient: torch.Tensor) -> None:
        assert self._found is not None
        score = candidate_norm(x, gradient.detach())
        before = self._found.get(self.name)
        self._found[self.name] = score if before is None else before + score


def candidate_norm(x: torch.Tensor | None, gradient: torch.Tensor) -> torch.Tensor:
    """Measure the gradient that a branch could get, as a scalar on the device.

    Where rows of input and output don't correspond, both are summed up for each sample; without an input of
    floating numbers the gradient's own norm counts.
    """
    if x is None or x.ndim < 2 or gradient.ndim < 2 or len(x) != len(gradient):
        return _norm(gradient.float())
    inputs, slopes = _rows(x.float(), gradient.float())
    # Signs without a pattern: rows of one sign would cancel out what the gradient is about.
    start = torch.arange(len(slopes), device=slopes.device, dtype=slopes.dtype).mul(_TURN).cos()
    v = inputs.mT @ (start * torch.linalg.vector_norm(slopes, dim=1))
    size = _norm(v)
    for _ in range(_ROUNDS):
        u = _unit(slopes.mT @ (inputs @ _unit(v)))
        v = inputs.mT @ (slopes @ u)
        size = _norm(v)
    return size


def _rows(x: torch.Tensor, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    if x.ndim < PICTURE and x.shape[:-1] == gradient.shape[:-1]:
        return x.reshape(-1, x.shape[-1]), gradient.reshape(-1, gradient.shape[-1])
    return pooled(x), pooled(gradient)


def _unit(vector: torch.Tensor) -> torch.Tensor:
    return vector / _norm(vector).clamp_min(torch.finfo(vector.dtype).tiny)


def _norm(vector: torch.Tensor) -> torch.Tensor:
    norm: torch.Tensor = torch.linalg.vector_norm(vector)
    return norm

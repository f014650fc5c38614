"""The forms in which sequences reach a recurrent layer, and the one it computes on."""

from __future__ import annotations

import torch
from torch.nn.utils.rnn import PackedSequence

from bioconvert.functional.gates import State

Given = torch.Tensor | PackedSequence


class Sequences:
    """Sequences as rows, one step after the other, the longest sequence first in each.

    Args:
        given: a packed sequence, or a tensor of 3 dimensions, or of 2 for a single sequence.
        batch_first: whether the batch is the first dimension of the former.

    Raises:
        ValueError: another number of dimensions, or no step at all.
    """

    rows: torch.Tensor
    """The inputs (S, F)."""
    sizes: list[int]
    """For each step, how many sequences reach it; they add up to S."""

    def __init__(self, given: Given, batch_first: bool):
        self._packed = given if isinstance(given, PackedSequence) else None
        self._batch_first = batch_first
        self.is_batched = True
        if isinstance(given, PackedSequence):
            self.rows, self.sizes = given.data, given.batch_sizes.tolist()
            return
        if given.dim() not in (2, 3):
            raise ValueError(f"input must have 2 or 3 dimensions, got {given.dim()}")
        self.is_batched = given.dim() == 3
        steps = given if self.is_batched else given.unsqueeze(1)
        steps = steps.transpose(0, 1) if self.is_batched and batch_first else steps
        if steps.shape[0] == 0:
            raise ValueError("sequences must have at least one step, got none")
        self.rows, self.sizes = steps.flatten(0, 1), [steps.shape[1]] * steps.shape[0]

    def arranged(self, state: State) -> State:
        """Bring states into the order of the rows, each as (layers, batch, size)."""
        if self._packed is not None:
            return _permuted(state, self._packed.sorted_indices)
        dims = 3 if self.is_batched else 2
        if any(each.dim() != dims for each in state):
            found = [each.dim() for each in state]
            raise ValueError(f"hx must have {dims} dimensions, as the input has, got {found}")
        return state if self.is_batched else tuple(each.unsqueeze(1) for each in state)

    def restored(self, state: State) -> State:
        """Undo :meth:`arranged`."""
        if self._packed is not None:
            return _permuted(state, self._packed.unsorted_indices)
        return state if self.is_batched else tuple(each.squeeze(1) for each in state)

    def like_given(self, rows: torch.Tensor) -> Given:
        """Bring outputs, in rows, into the form of the input."""
        if self._packed is not None:
            return self._packed._replace(data=rows)
        if not self.is_batched:
            return rows
        steps = rows.view(len(self.sizes), self.sizes[0], rows.shape[1])
        return steps.transpose(0, 1) if self._batch_first else steps


def _permuted(state: State, indices: torch.Tensor | None) -> State:
    return state if indices is None else tuple(each.index_select(1, indices) for each in state)

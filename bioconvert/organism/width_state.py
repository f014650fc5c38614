"""Optimizers of layers that got new units: moments that grow, and steps counted from a weight's own birth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from bioconvert.core.errors import OptionError
from bioconvert.functional.own_step import is_young, own_step
from bioconvert.graph.resizing import fit_state, is_elementwise

BORN = "bioconvert_born"
"""Where an optimizer's state keeps, for each dimension of a parameter that grew, the counts of steps at which
its rows, or columns, were born: plain numbers, which a saved state keeps as they are."""


def check_state(optimizer: torch.optim.Optimizer, parameter: torch.Tensor) -> None:
    """Refuse a parameter of which an optimizer keeps what can't grow with it.

    Raises:
        OptionError: a tensor in its state is of no shape that follows from the parameter's.
    """
    for name, value in optimizer.state.get(parameter, {}).items():
        fits = not isinstance(value, torch.Tensor) or value.numel() == 1
        if not fits and not is_elementwise(value, parameter.shape):
            raise OptionError(
                f"{type(optimizer).__name__} keeps {name!r} of shape {list(value.shape)} for a parameter of "
                f"shape {list(parameter.shape)}, which can't follow its growth"
            )


def welcome(
    optimizer: torch.optim.Optimizer, parameter: torch.Tensor, before: Sequence[int], axis: int
) -> None:
    """Let an optimizer follow a parameter that grew: old numbers keep every bit, new ones are as at a start.

    Args:
        optimizer: the optimizer.
        parameter: the parameter, grown already.
        before: the shape that it had.
        axis: the dimension that grew.
    """
    state = optimizer.state.get(parameter)
    if not state:
        return
    fit_state(optimizer, parameter, before)
    if isinstance(state.get("step_size"), torch.Tensor):  # Rprop's rates, which are multiplied
        rate = next(g["lr"] for g in optimizer.param_groups if any(p is parameter for p in g["params"]))
        state["step_size"].narrow(axis, before[axis], parameter.shape[axis] - before[axis]).fill_(rate)
    if isinstance(state.get("ax"), torch.Tensor):  # the mean of ASGD's weights
        state["ax"].narrow(axis, before[axis], parameter.shape[axis] - before[axis]).copy_(
            parameter.detach().narrow(axis, before[axis], parameter.shape[axis] - before[axis])
        )
    if {"exp_avg", "exp_avg_sq", "step"} <= state.keys():
        births = dict(state.get(BORN, {}))
        old = births.get(str(axis), [0] * before[axis])
        births[str(axis)] = [*old, *[int(state["step"])] * (parameter.shape[axis] - before[axis])]
        state[BORN] = births


def keep_births(state: dict[str, Any], axis: int, kept: torch.Tensor) -> None:
    """Let the state of a parameter tell when those of its rows, or columns, were born that are left.

    Args:
        state: what an optimizer keeps of the parameter.
        axis: the dimension that has become smaller.
        kept: the places of what is left in it, among those there were.
    """
    counts = state.get(BORN, {}).get(str(axis))
    if counts is not None:
        state[BORN] = {**state[BORN], str(axis): [counts[place] for place in kept.tolist()]}


Births = Mapping[str, Sequence[int]]


class YoungWeights:
    """Hooks on an optimizer of Adam's family that let weights born later move as at a start of their own.

    Args:
        optimizer: the optimizer.
    """

    def __init__(self, optimizer: torch.optim.Optimizer):
        self.optimizer = optimizer
        self._before: list[tuple[torch.Tensor, torch.Tensor, Mapping[str, Any]]] = []
        self._births: dict[int, tuple[Births, torch.Tensor]] = {}
        self._handles = [
            optimizer.register_step_pre_hook(self._note),
            optimizer.register_step_post_hook(self._correct),
        ]

    def remove(self) -> None:
        """Let the optimizer step alone."""
        for handle in self._handles:
            handle.remove()

    def _note(self, *_: Any) -> None:
        self._before = [
            (parameter, parameter.detach().clone(), group)
            for group in self.optimizer.param_groups
            for parameter in group["params"]
            if BORN in self.optimizer.state.get(parameter, ())
        ]

    @torch.no_grad()
    def _correct(self, *_: Any) -> None:
        for parameter, before, group in self._before:
            state = self.optimizer.state[parameter]
            born, step = self._births_of(parameter, state[BORN]), float(state["step"])
            factor = own_step(step - born, state, group)
            if factor is not None:
                moved = (parameter - before) * factor.to(parameter.dtype)
                parameter.copy_(torch.where(born > 0, before + moved, parameter))
            # Asked of plain numbers: those on a GPU would have to be waited for in every step.
            last = max(max(counts, default=0) for counts in state[BORN].values())
            if not last or not is_young(torch.tensor(step - last + 1), group):
                del state[BORN], self._births[id(parameter)]
        self._before = []

    def _births_of(self, parameter: torch.Tensor, told: Births) -> torch.Tensor:
        known, born = self._births.get(id(parameter), (None, parameter))
        if known is not told or born.shape != parameter.shape or born.device != parameter.device:
            born = _births(told, parameter)
            self._births[id(parameter)] = told, born
        return born


def _births(told: Births, parameter: torch.Tensor) -> torch.Tensor:
    """Give the count of steps at which each element was born."""
    born = torch.zeros([1] * parameter.dim(), device=parameter.device)
    for axis, counts in told.items():
        shape = [-1 if each == int(axis) else 1 for each in range(parameter.dim())]
        size = parameter.shape[int(axis)]
        fitting = [*counts[:size], *[0] * (size - len(counts))]  # it may have been resized by others since
        born = torch.maximum(born, torch.tensor(fitting, dtype=born.dtype, device=born.device).view(shape))
    return born.expand(parameter.shape)

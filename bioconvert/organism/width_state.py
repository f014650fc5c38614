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


class YoungWeights:
    """Hooks on an optimizer of Adam's family that let weights born later move as at a start of their own.

    Args:
        optimizer: the optimizer.
    """

    def __init__(self, optimizer: torch.optim.Optimizer):
        self.optimizer = optimizer
        self._before: list[tuple[torch.Tensor, torch.Tensor, Mapping[str, Any]]] = []
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
            born = _births(state[BORN], parameter)
            age = float(state["step"]) - born
            factor = own_step(age, state, group)
            if factor is not None:
                moved = (parameter - before) * factor.to(parameter.dtype)
                parameter.copy_(torch.where(born > 0, before + moved, parameter))
            if not bool(((born > 0) & is_young(age + 1, group)).any()):
                del state[BORN]
        self._before = []


def _births(told: Mapping[str, Sequence[int]], parameter: torch.Tensor) -> torch.Tensor:
    """Give the count of steps at which each element was born."""
    born = torch.zeros([1] * parameter.dim(), device=parameter.device)
    for axis, counts in told.items():
        shape = [-1 if each == int(axis) else 1 for each in range(parameter.dim())]
        size = parameter.shape[int(axis)]
        fitting = [*counts[:size], *[0] * (size - len(counts))]  # it may have been resized by others since
        born = torch.maximum(born, torch.tensor(fitting, dtype=born.dtype, device=born.device).view(shape))
    return born.expand(parameter.shape)

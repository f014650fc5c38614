"""Running a recurrent unit over sequences of different lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from bioconvert.functional.gates import Seen, State


class Unit(Protocol):
    """What is done at each step."""

    def see(self, x: torch.Tensor) -> Seen:
        """Do what can be done for many inputs at once."""
        ...

    def step(self, seen: Seen, state: State) -> State:
        """Give the next state."""
        ...


def over_time(
    unit: Unit, rows: torch.Tensor, sizes: Sequence[int], state: State, *, reverse: bool = False
) -> tuple[torch.Tensor, State]:
    """Give a unit's hidden states at all steps, and each sequence's last state.

    Args:
        unit: what is done at each step.
        rows: the inputs :math:`(S, F)` of all steps, one step after the other.
        sizes: for each step, how many sequences reach it: those are the first ones. They add up to S.
        state: where the sequences start, each :math:`(N, H)`, with N the first of the sizes.
        reverse: whether to go from the last step to the first.

    Returns:
        The hidden states :math:`(S, H)`, in the order of ``rows``, and the last state.
    """
    seen = list(zip(*(torch.split(each, list(sizes)) for each in unit.see(rows)), strict=True))
    if reverse:
        hidden, last = _backwards(unit, seen, sizes, state)
    else:
        hidden, last = _forwards(unit, seen, sizes, state)
    return torch.cat(hidden), last


def _forwards(
    unit: Unit, seen: list[Seen], sizes: Sequence[int], state: State
) -> tuple[list[torch.Tensor], State]:
    """Let sequences leave as they end."""
    hidden, left = [], []
    size = sizes[0]
    for inputs, reaching in zip(seen, sizes, strict=True):
        if reaching < size:
            left.append(tuple(each[reaching:] for each in state))
            state = tuple(each[:reaching] for each in state)
            size = reaching
        state = unit.step(inputs, state)
        hidden.append(state[0])
    return hidden, _stacked([state, *reversed(left)])


def _backwards(
    unit: Unit, seen: list[Seen], sizes: Sequence[int], start: State
) -> tuple[list[torch.Tensor], State]:
    """Let sequences join as they begin."""
    hidden = []
    size = sizes[-1]
    state = tuple(each[:size] for each in start)
    for inputs, reaching in zip(reversed(seen), reversed(sizes), strict=True):
        if reaching > size:
            state = _stacked([state, tuple(each[size:reaching] for each in start)])
            size = reaching
        state = unit.step(inputs, state)
        hidden.append(state[0])
    return hidden[::-1], state


def _stacked(states: list[State]) -> State:
    return states[0] if len(states) == 1 else tuple(torch.cat(each) for each in zip(*states, strict=True))

"""An optimizer that follows an organism: its groups, their rates, and the count of its steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bioconvert.organism.optimizer import (
    add_group,
    forget,
    group_named,
    new_groups,
    set_rate,
    take_out,
    unwrapped,
)
from bioconvert.organism.pruning_bypass import idle_parameters
from bioconvert.organism.record import Record
from bioconvert.organism.seats import Seat
from bioconvert.organism.width_state import YoungWeights

if TYPE_CHECKING:
    from bioconvert.organism.organism import Organism


class Binding:
    """Hooks on an optimizer that set the rates of young groups and count its steps.

    Args:
        organism: the organism, which the hooks keep alive.
        optimizer: the optimizer.
        counts: whether its steps are the organism's.
    """

    def __init__(self, organism: Organism, optimizer: Any, *, counts: bool):
        self.organism = organism
        self.optimizer: torch.optim.Optimizer = unwrapped(optimizer)
        self._regroup()
        self._young = YoungWeights(self.optimizer)
        self._handles = [self.optimizer.register_step_pre_hook(self._before)]
        if counts:
            self._handles.append(self.optimizer.register_step_post_hook(self._after))

    def serves(self, optimizer: Any) -> bool:
        """Say whether this is the binding of an optimizer."""
        return unwrapped(optimizer) is self.optimizer

    def holds(self, parameters: Set[int]) -> bool:
        """Say whether the optimizer trains one of some parameters, given by their ``id``."""
        return any(id(p) in parameters for group in self.optimizer.param_groups for p in group["params"])

    def remove(self) -> None:
        """Let the optimizer step alone."""
        self._young.remove()
        for handle in self._handles:
            handle.remove()

    def welcome(self, born: Seat, source: Seat, steps: int) -> None:
        """Give the optimizer the groups of a new branch."""
        branch = born.branch
        assert branch is not None
        named = dict(branch.named_parameters())
        own = source.node.named_parameters()
        counterparts = {f"block.{name}": p for name, p in own if f"block.{name}" in named}
        record = {"of": born.node.dynamic_id, "born": self.organism.step, "steps": steps}
        for group in new_groups(self.optimizer, named, counterparts, record):
            parameters = [named[name] for name in group["parameters"]]
            add_group(self.optimizer, group, parameters, self.organism.step)
            self._records.append(group)

    def admit(self, seat: Seat, names: Sequence[str], group: str, steps: int) -> None:
        """Give the optimizer one group of parameters that a branch got later on, by their names in it."""
        assert seat.branch is not None
        named = {name: seat.branch.get_parameter(name) for name in names}
        own = {id(p) for p in seat.node.parameters()}
        groups = self.optimizer.param_groups
        follows = next((i for i, g in enumerate(groups) if own & {id(p) for p in g["params"]}), 0)
        record = {
            "of": seat.node.dynamic_id,
            "born": self.organism.step,
            "steps": steps,
            "name": group,
            "follows": follows,
            "decays": False,
            "parameters": list(names),
        }
        add_group(self.optimizer, record, list(named.values()), self.organism.step)
        self._records.append(record)

    def forget(self, parameters: Iterable[nn.Parameter]) -> None:
        """Let the optimizer forget parameters."""
        forget(self.optimizer, parameters)

    @property
    def _records(self) -> list[Record]:
        groups: list[Record] = self.organism.record["groups"]
        return groups

    def _regroup(self) -> None:
        """Give a fresh optimizer the groups that growth made in another one, also those that died since."""
        for record in self._records:
            if group_named(self.optimizer, record["name"]) is not None:
                continue
            parameters = self._parameters(record)
            if parameters and not self.holds({id(p) for p in parameters}):
                continue
            state = take_out(self.optimizer, parameters)
            add_group(self.optimizer, record, parameters, self.organism.step)
            self.optimizer.state.update({p: state[id(p)] for p in parameters if id(p) in state})
        for node in self.organism.nodes():
            self.forget(idle_parameters(node))

    def _parameters(self, record: Record) -> list[nn.Parameter]:
        seat = self.organism.seats.get(record["of"])
        if seat is None or seat.branch is None:
            return []
        return [seat.branch.get_parameter(name) for name in record["parameters"]]

    def _before(self, *_: Any) -> None:
        for record in self._records:
            set_rate(self.optimizer, record, self.organism.step)

    def _after(self, *_: Any) -> None:
        self.organism.record["step"] += 1

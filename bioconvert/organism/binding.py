"""An optimizer that follows an organism: its groups, their rates, and the count of its steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import nn

from bioconvert.organism.optimizer import (
    add_group,
    forget,
    group_named,
    new_groups,
    pace,
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


class Bindings(list["Binding"]):
    """The optimizers that follow a model, in the order in which they were bound."""

    def of(self, optimizer: Any) -> Binding | None:
        """Give the binding of an optimizer."""
        return next((each for each in self if each.optimizer is unwrapped(optimizer)), None)

    def training(self, parameters: Iterable[nn.Parameter]) -> Binding | None:
        """Give the one that trains some parameters; of several, that of those with the fewest dimensions.

        What a branch adds beside copies is small: optimizers that are for matrices only can't take it.
        """
        held = [(binding, binding.held()) for binding in self]
        for parameter in sorted(parameters, key=torch.Tensor.dim):
            for binding, own in held:
                if id(parameter) in own:
                    return binding
        return None


_shared: WeakKeyDictionary[nn.Module, ref[Bindings]] = WeakKeyDictionary()
"""Two organisms of one model must not both count the steps of its optimizer."""


def bindings_of(model: nn.Module) -> Bindings:
    """Give the optimizers that follow a model, the same list to each who asks."""
    known = _shared.get(model)
    found = None if known is None else known()
    if found is None:
        found = Bindings()
        _shared[model] = ref(found)
    return found


def welcome(bindings: Iterable[Binding], usual: Binding, born: Seat, source: Seat, steps: int) -> None:
    """Give the parameters of a new branch to the optimizers that train what they are copies of.

    Args:
        bindings: those among which to choose.
        usual: gets what is no copy, or a copy of what none of them trains.
        born: the branch.
        source: what it is a clone of.
        steps: the number of steps within which the rates come down.
    """
    assert born.branch is not None
    named = dict(born.branch.named_parameters())
    own = source.node.named_parameters()
    counterparts = {f"block.{name}": p for name, p in own if f"block.{name}" in named}
    held = [(binding, binding.held()) for binding in bindings]
    chosen = {
        name: next((binding for binding, own in held if id(counterparts.get(name)) in own), usual)
        for name in named
    }
    for binding, _ in held:
        mine = {name: p for name, p in named.items() if chosen[name] is binding}
        if mine:
            known = {name: p for name, p in counterparts.items() if name in mine}
            binding.welcome(born, mine, known, steps)


class Binding:
    """Hooks on an optimizer that set the rates of young groups and count its steps.

    Args:
        organism: the organism, which the hooks keep alive.
        optimizer: the optimizer.
        number: how many were bound before it; the steps of the first one are the organism's.
    """

    def __init__(self, organism: Organism, optimizer: Any, number: int):
        self.organism = organism
        self.optimizer: torch.optim.Optimizer = unwrapped(optimizer)
        self.number = number
        self._records: list[Record] = []
        self._regroup()
        self._young = YoungWeights(self.optimizer)
        self._handles = [self.optimizer.register_step_pre_hook(self.set_rates)]
        if number == 0:
            self._handles.append(self.optimizer.register_step_post_hook(self._after))

    def held(self) -> set[int]:
        """Give the ``id`` of each parameter that the optimizer trains."""
        return {id(p) for group in self.optimizer.param_groups for p in group["params"]}

    def remove(self) -> None:
        """Let the optimizer step alone."""
        self._young.remove()
        for handle in self._handles:
            handle.remove()

    def welcome(
        self,
        born: Seat,
        named: Mapping[str, nn.Parameter],
        counterparts: Mapping[str, nn.Parameter],
        steps: int,
    ) -> None:
        """Give the optimizer groups of a new branch's parameters, by their names in it."""
        record = {
            "of": born.node.dynamic_id,
            "born": self.organism.step,
            "steps": steps,
            "optimizer": self.number,
        }
        for group in new_groups(self.optimizer, named, counterparts, record):
            self._add(group, [named[name] for name in group["parameters"]])

    def admit(self, seat: Seat, names: Sequence[str], group: str, steps: int) -> None:
        """Give the optimizer one group of parameters that a branch got later on, by their names in it."""
        assert seat.branch is not None
        parameters = [seat.branch.get_parameter(name) for name in names]
        own = {id(p) for p in seat.node.parameters()}
        groups = self.optimizer.param_groups
        follows = next((i for i, g in enumerate(groups) if own & {id(p) for p in g["params"]}), 0)
        record = {
            "of": seat.node.dynamic_id,
            "born": self.organism.step,
            "steps": steps,
            "optimizer": self.number,
            "name": group,
            "follows": follows,
            "decays": False,
            "parameters": list(names),
        }
        self._add(record, parameters)

    def forget(self, parameters: Iterable[nn.Parameter]) -> None:
        """Let the optimizer forget parameters."""
        forget(self.optimizer, parameters)

    def _add(self, record: Record, parameters: list[nn.Parameter]) -> None:
        record |= pace(self.optimizer, record["follows"], self._records, self.organism.step)
        add_group(self.optimizer, record, parameters, self.organism.step)
        self._records.append(record)
        self.organism.record["groups"].append(record)

    def _regroup(self) -> None:
        """Give a fresh optimizer the groups that growth made in another one, also those that died since."""
        held = self.held()
        for record in self.organism.record["groups"]:
            parameters = self._parameters(record)
            if not (
                held & {id(p) for p in parameters}
                if parameters
                else record.get("optimizer", 0) == self.number
            ):
                continue
            record["optimizer"] = self.number
            self._records.append(record)
            if group_named(self.optimizer, record["name"]) is None:
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

    def set_rates(self, *_: Any) -> None:
        """Set the rates of young groups for the step that comes."""
        for record in self._records:
            set_rate(self.optimizer, record, self.organism.step)

    def _after(self, *_: Any) -> None:
        self.organism.record["step"] += 1

"""Optimizers of a growing model: groups of new parameters, their rates, and forgetting what died."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from bioconvert.core.errors import OptionError
from bioconvert.organism.record import Record
from bioconvert.organism.schedulers import extend_schedulers

Group = dict[str, Any]
WARM = 10.0
"""The rate of new parameters at their birth, in units of that of the parameters they are copies of."""
_NOT_COPIED = frozenset({"params", "param_names", "name"})


def unwrapped(optimizer: Any) -> torch.optim.Optimizer:
    """Give the optimizer that does the steps, where accelerate or Lightning put another in front of it.

    Raises:
        OptionError: it is none, or evaluates the loss several times a step.
    """
    inner = getattr(optimizer, "optimizer", None)
    if isinstance(inner, torch.optim.Optimizer):
        return unwrapped(inner)
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise OptionError(f"optimizer must be a torch.optim.Optimizer, not {type(optimizer).__name__}")
    if isinstance(optimizer, torch.optim.LBFGS):
        raise OptionError("LBFGS takes one group of parameters only, and so can't follow a model that grows")
    return optimizer


def second_moment(
    optimizers: Iterable[torch.optim.Optimizer], parameter: torch.Tensor
) -> torch.Tensor | None:
    """Give Adam's second moment of a parameter, if one of some optimizers has it."""
    for optimizer in optimizers:
        found = optimizer.state.get(parameter, {}).get("exp_avg_sq")
        if isinstance(found, torch.Tensor) and found.shape == parameter.shape:
            return found
    return None


def warmth(age: int, steps: int) -> float:
    """Give the factor on the rate of new parameters: 10 at birth, 1 after some steps, linear between."""
    return 1.0 + (WARM - 1.0) * (1.0 - age / steps) if age < steps else 1.0


def new_groups(
    optimizer: torch.optim.Optimizer,
    named: Mapping[str, nn.Parameter],
    counterparts: Mapping[str, nn.Parameter],
    begin: Record,
) -> list[Record]:
    """Say in which groups new parameters go: the settings are those of the parameters they are copies of.

    What is no copy, a gate, goes with the copies of the fewest dimensions, and gets no weight decay.

    Args:
        optimizer: the optimizer.
        named: the new parameters.
        counterparts: what they are copies of, by the same names.
        begin: what is the same in each record: ``of``, the node's ``id``, ``born`` and ``steps``.

    Returns:
        A record of each group; the first is named after the node.
    """
    where = {id(p): i for i, group in enumerate(optimizer.param_groups) for p in group["params"]}
    held = [p for p in counterparts.values() if id(p) in where]
    usual = where[id(min(held, key=torch.Tensor.dim))] if held else 0
    sorted_in: dict[tuple[int, bool], list[str]] = {}
    for name in sorted(named, key=lambda name: name not in counterparts):
        place = where.get(id(counterparts.get(name)), usual)
        decays = name in counterparts or not optimizer.param_groups[place].get("weight_decay")
        sorted_in.setdefault((place, decays), []).append(name)
    return [
        {
            **begin,
            "name": begin["of"] if number == 0 else f"{begin['of']}/{number}",
            "follows": place,
            "decays": decays,
            "parameters": names,
        }
        for number, ((place, decays), names) in enumerate(sorted_in.items())
    ]


def pace(optimizer: torch.optim.Optimizer, place: int, records: Iterable[Record], step: int) -> Record:
    """Say which group's rate a new group goes by, where the one that it follows is itself still warm.

    Args:
        optimizer: the optimizer.
        place: the place of the group that the new one follows.
        records: those of the groups that growth made.
        step: the step.

    Returns:
        What is to be added to the record of the new group.
    """
    group = optimizer.param_groups[place]
    warm = (record for record in records if step - record["born"] <= record["steps"])
    young = next((record for record in warm if group_named(optimizer, record["name"]) is group), None)
    if young is None:
        return {}
    told = {"rate_of": young.get("rate_of", young["follows"])}
    return {**told, "base_lr": young["base_lr"]} if "base_lr" in young else told


def add_group(
    optimizer: torch.optim.Optimizer, record: Record, parameters: Iterable[nn.Parameter], step: int
) -> None:
    """Give an optimizer a group of new parameters, and its schedulers word of it."""
    followed = optimizer.param_groups[record["follows"]]
    group: Group = {key: value for key, value in followed.items() if key not in _NOT_COPIED}
    group.update(name=record["name"], params=list(parameters))
    if "param_names" in followed:
        group["param_names"] = [f"{record['of']}.{name}" for name in record["parameters"]]
    if not record["decays"]:
        group["weight_decay"] = 0.0
    if isinstance(group["lr"], torch.Tensor):
        group["lr"] = group["lr"].clone()
    optimizer.add_param_group(group)
    extend_schedulers(optimizer, record["follows"])
    set_rate(optimizer, record, step)


def group_named(optimizer: torch.optim.Optimizer, name: str) -> Group | None:
    """Give the group of a name, if there is one: the last, since one of a node that died stays."""
    return next((group for group in reversed(optimizer.param_groups) if group.get("name") == name), None)


def set_rate(optimizer: torch.optim.Optimizer, record: Record, step: int) -> None:
    """Set the rate of a group for the step that comes, from its own base or that of the group it follows.

    After its time of warming up a group is left to the schedulers, and to the user.
    """
    age = step - record["born"]
    group = group_named(optimizer, record["name"]) if age <= record["steps"] else None
    if group is None:
        return
    place: Any = record.get("rate_of", record["follows"])
    base = record.get("base_lr", optimizer.param_groups[place]["lr"])
    rate = base * warmth(age, record["steps"])
    if isinstance(group["lr"], torch.Tensor):
        group["lr"].copy_(rate)
    else:
        group["lr"] = rate


def forget(optimizer: torch.optim.Optimizer, parameters: Iterable[torch.Tensor]) -> None:
    """Let an optimizer forget parameters; a group without any stays, since schedulers count the groups."""
    gone = {id(parameter) for parameter in parameters}
    for group in optimizer.param_groups:
        kept = [i for i, parameter in enumerate(group["params"]) if id(parameter) not in gone]
        for key in {"params", "param_names"} & group.keys():
            group[key] = [group[key][i] for i in kept]
    for parameter in [p for p in optimizer.state if id(p) in gone]:
        del optimizer.state[parameter]


def take_out(optimizer: torch.optim.Optimizer, parameters: Iterable[torch.Tensor]) -> dict[int, Any]:
    """Take parameters from an optimizer's groups, and give what it kept of them by their ``id``."""
    gone = list(parameters)
    state = {id(p): optimizer.state[p] for p in gone if p in optimizer.state}
    forget(optimizer, gone)
    return state

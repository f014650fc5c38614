"""Keeping an optimizer in step with a model whose parameters grow or shrink."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

Group = dict[str, Any]


def add_parameters(
    optimizer: torch.optim.Optimizer, additions: Iterable[tuple[nn.Module, str, nn.Parameter]]
) -> None:
    """Let an optimizer update new parameters; groups and state of the others stay.

    A new parameter joins a group of its layer's other parameters. Scalars, gates and other vectors get no
    weight decay: where each of those groups decays, they join a group of the same settings without it.

    Args:
        optimizer: the optimizer, changed in place.
        additions: the layer, the name and the parameter, of each new one.
    """
    undecayed: dict[int, Group] = {}
    for layer, name, parameter in additions:
        groups = _groups_of(optimizer, layer, parameter)
        if groups:
            _join(_group_for(optimizer, groups, parameter, undecayed), name, parameter)


@dataclass(frozen=True)
class GroupsBefore:
    """The parameter groups of an optimizer at one moment, to go back to."""

    optimizer: torch.optim.Optimizer
    groups: tuple[tuple[Group, dict[str, list[Any]]], ...]

    @classmethod
    def of(cls, optimizer: torch.optim.Optimizer) -> GroupsBefore:
        """Take note of an optimizer's groups."""
        held = ("params", "param_names")
        noted = [(g, {key: list(g[key]) for key in held if key in g}) for g in optimizer.param_groups]
        return cls(optimizer, tuple(noted))

    def restore(self) -> None:
        """Give the optimizer its groups back."""
        self.optimizer.param_groups[:] = [group for group, _ in self.groups]
        for group, lists in self.groups:
            group.update(lists)


def _groups_of(optimizer: torch.optim.Optimizer, layer: nn.Module, new: nn.Parameter) -> list[Group]:
    """Give the groups that hold a layer's parameters, that of the weight first."""
    own = {id(parameter) for parameter in layer._parameters.values() if parameter is not None} - {id(new)}
    return [group for group in optimizer.param_groups if any(id(p) in own for p in group["params"])]


def _group_for(
    optimizer: torch.optim.Optimizer,
    groups: list[Group],
    parameter: nn.Parameter,
    undecayed: dict[int, Group],
) -> Group:
    if parameter.ndim > 1:
        return groups[0]
    for group in groups:
        if not group.get("weight_decay"):
            return group
    source = groups[0]
    if id(source) not in undecayed:
        settings = {key: value for key, value in source.items() if key not in ("params", "param_names")}
        fresh: Group = {**settings, "params": [], "weight_decay": 0.0}
        if "param_names" in source:
            fresh["param_names"] = []
        optimizer.param_groups.append(fresh)
        undecayed[id(source)] = fresh
    return undecayed[id(source)]


def _join(group: Group, name: str, parameter: nn.Parameter) -> None:
    group["params"].append(parameter)
    if "param_names" in group:
        group["param_names"].append(name)

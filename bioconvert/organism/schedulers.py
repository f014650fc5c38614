"""Schedulers of learning rates, told of groups that their optimizer got after they were made."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

_BY_GROUP = ("base_lrs", "lr_lambdas", "min_lrs", "max_lrs", "base_momentums", "max_momentums", "_last_lr")
"""What schedulers of torch keep for each group."""


def extend_schedulers(optimizer: torch.optim.Optimizer, like: int) -> None:
    """Let the schedulers of an optimizer treat its last group as they do another one.

    A scheduler has a setting for each group and refuses to go on when there are more groups than that; its
    optimizer doesn't know it, so that it is looked for among all objects.

    Args:
        optimizer: the optimizer, which has got a group.
        like: the place of the other group.
    """
    before = len(optimizer.param_groups) - 1
    for scheduler in _schedulers_of(optimizer):
        for name in _BY_GROUP:
            held: Any = vars(scheduler).get(name)
            if isinstance(held, list) and len(held) == before:
                held.append(held[like])


def _schedulers_of(optimizer: torch.optim.Optimizer) -> Iterator[Any]:
    kinds = {*_kinds(LRScheduler), *_kinds(ReduceLROnPlateau)}
    # By exact class: to ask each of a million objects what it inherits from takes much longer.
    for found in gc.get_objects():
        if type(found) in kinds and vars(found).get("optimizer") is optimizer:
            yield found


def _kinds(cls: type[Any]) -> Iterator[type[Any]]:
    yield cls
    for each in cls.__subclasses__():
        yield from _kinds(each)

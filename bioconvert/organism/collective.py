"""Growth in several processes: all take the same decision at the same step, or an error tells them apart."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from math import isfinite, nan
from typing import Any

import torch
from torch import distributed, nn

from bioconvert.core.errors import OptionError
from bioconvert.organism.control import Row

_BITS = 63
_APART = 1e-3
"""Relative difference of gates that rounding doesn't explain."""


class DecisionMismatchError(OptionError):
    """Processes that train one model disagree on how it grows."""


def processes(group: Any = None) -> int:
    """Say how many processes train together; 1 where none were started."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 1
    return distributed.get_world_size(group)


def mean_rows(rows: Sequence[Row], group: Any = None) -> list[Row]:
    """Give the mean over all processes of rows of numbers, the same bits to each process.

    Where one of them has ``None``, all get it.

    Raises:
        DecisionMismatchError: they have different numbers of them.
    """
    if processes(group) == 1:
        return [list(row) for row in rows]
    shapes = gathered([float(len(rows)), float(len(rows[0]) if rows else 0)], group)
    if any(shape != shapes[0] for shape in shapes):
        counts = ", ".join(f"{shape[0]:.0f}" for shape in shapes)
        raise DecisionMismatchError(
            f"the processes have different numbers of readings ({counts}): call the callback after every "
            "step in each of them"
        )
    width = int(shapes[0][1])
    flat = gathered([nan if value is None else value for row in rows for value in row], group)
    sums = [sum(values) / len(flat) for values in zip(*flat, strict=True)]
    means = [mean if isfinite(mean) else None for mean in sums]
    return [means[start : start + width] for start in range(0, len(means), width or 1)]


def largest(value: int, group: Any = None) -> int:
    """Give the largest of a number over all processes."""
    return int(max(row[0] for row in gathered([float(value)], group)))


def insist_on_agreement(told: object, what: str, group: Any = None) -> None:
    """See to it that every process says the same.

    Args:
        told: what this process says; its ``repr`` is compared.
        what: what it is about, for the error.
        group: the processes; by default all.

    Raises:
        DecisionMismatchError: in every process, where two differ.
    """
    if processes(group) == 1:
        return
    texts: list[Any] = [None] * processes(group)
    digest = hashlib.blake2b(repr(told).encode(), digest_size=8).digest()
    number = int.from_bytes(digest, "little") >> (64 - _BITS)
    codes = _gathered(torch.tensor([number], dtype=torch.int64), group)
    if all(torch.equal(code, codes[0]) for code in codes):
        return
    distributed.all_gather_object(texts, repr(told), group=group)
    said = "; ".join(f"process {rank}: {text}" for rank, text in enumerate(texts))
    raise DecisionMismatchError(f"the processes disagree on {what}. {said}")


def insist_on_equal_gates(gates: Mapping[str, torch.Tensor], group: Any = None) -> None:
    """See to it that processes still train one model: a wrapper from before a birth lets them part.

    Args:
        gates: those of all branches, by ``id``.
        group: the processes; by default all.

    Raises:
        DecisionMismatchError: in every process, where branches or their gates differ.
    """
    if processes(group) == 1:
        return
    insist_on_agreement(list(gates), "which branches there are", group)
    for name, *values in zip(gates, *gathered([gate.item() for gate in gates.values()], group), strict=True):
        if max(values) - min(values) > _APART * max(map(abs, values)):
            said = ", ".join(f"{each:.4g}" for each in values)
            raise DecisionMismatchError(
                f"the gate of {name!r} differs between processes ({said}), so that gradients of new "
                "parameters were not averaged: put the model into a new DistributedDataParallel after each "
                "birth"
            )


def refuse_sharded(module: nn.Module, named: str, change: str) -> None:
    """Refuse to change a module whose parameters are given out to several processes.

    Args:
        module: the module.
        named: what to call it.
        change: what it can't do: ``"grow"`` or ``"be pruned"``.

    Raises:
        OptionError: they are.
    """
    for name, parameter in module.named_parameters():
        if hasattr(parameter, "placements") and hasattr(parameter, "device_mesh"):
            raise OptionError(
                f"{named!r} can't {change}: its {name!r} is sharded over processes (FSDP2), which took note "
                "of the parameters there were and of their shapes: let the model change before fully_shard"
            )


def gathered(values: Sequence[float], group: Any = None) -> list[list[float]]:
    """Give the numbers of every process, in the order of their ranks."""
    if processes(group) == 1:
        return [list(values)]
    return [row.tolist() for row in _gathered(torch.tensor(values, dtype=torch.float64), group)]


def _gathered(mine: torch.Tensor, group: Any) -> list[torch.Tensor]:
    # NCCL moves what is on a GPU only.
    if distributed.get_backend(group) == "nccl":
        mine = mine.to(torch.device("cuda", torch.cuda.current_device()))
    rows = [torch.empty_like(mine) for _ in range(processes(group))]
    distributed.all_gather(rows, mine, group=group)
    return rows

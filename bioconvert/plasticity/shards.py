"""Parameters of which each process holds some rows, as FSDP2 makes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from bioconvert.core.errors import OptionError


@dataclass(frozen=True, slots=True)
class Extent:
    """What a process holds of a parameter.

    Args:
        rows: the part of the first dimension.
        start: the first element, counted in the flat parameter.
        total: number of elements of the whole parameter.
    """

    rows: slice
    start: int
    total: int


def is_distributed(tensor: torch.Tensor) -> bool:
    """Say whether a tensor is a ``DTensor``, without an import of what makes them."""
    return hasattr(tensor, "to_local") and hasattr(tensor, "placements")


def local(tensor: torch.Tensor) -> torch.Tensor:
    """Give what this process holds of a tensor; it shares its memory."""
    if not is_distributed(tensor):
        return tensor
    held: torch.Tensor = _distributed(tensor).to_local()
    return held.detach()


def extent_of(tensor: torch.Tensor, name: str) -> Extent:
    """Say what this process holds of a parameter.

    Args:
        tensor: the parameter.
        name: its name, for the error.

    Raises:
        OptionError: it isn't split into rows.
    """
    rows = tensor.shape[0] if tensor.dim() else 1
    if not is_distributed(tensor):
        return Extent(slice(0, rows), 0, tensor.numel())
    sharded = _split(tensor, name)
    if sharded is None:
        return Extent(slice(0, rows), 0, tensor.numel())
    mesh = _distributed(tensor).device_mesh
    # The rows are given out as torch.chunk does: the same number each, until none are left.
    each = -(-rows // mesh.size(sharded))
    first = min(mesh.get_local_rank(sharded) * each, rows)
    here = slice(first, min(first + each, rows))
    return Extent(here, first * (tensor.numel() // max(rows, 1)), tensor.numel())


def distribute_like(tensor: torch.Tensor, weight: torch.Tensor, rows: slice) -> torch.Tensor:
    """Share out a tensor, which every process has, as a weight of the same shape is."""
    from torch.distributed.tensor import DTensor

    like = _distributed(weight)
    return DTensor.from_local(
        tensor[rows].clone(),
        like.device_mesh,
        like.placements,
        run_check=False,
        shape=tensor.shape,
        stride=tensor.stride(),
    )


def total(values: torch.Tensor, weight: torch.Tensor, name: str) -> torch.Tensor:
    """Add up what the processes that share a weight found; every one of them has to ask."""
    if not is_distributed(weight):
        return values
    sharded = _split(weight, name)
    if sharded is None:
        return values
    summed = values.clone()
    torch.distributed.all_reduce(summed, group=_distributed(weight).device_mesh.get_group(sharded))
    return summed


def whole(weight: torch.Tensor) -> torch.Tensor:
    """Give all of a weight, collected from the processes that share it; every one of them has to ask."""
    if not is_distributed(weight):
        return weight.detach()
    collected: torch.Tensor = _distributed(weight).full_tensor()
    return collected.detach()


def _split(tensor: torch.Tensor, name: str) -> int | None:
    """Give the mesh's dimension over which a tensor's rows are given out."""
    placements = _distributed(tensor).placements
    split = [i for i, placement in enumerate(placements) if not placement.is_replicate()]
    by_rows = all(type(placements[i]).__name__ == "Shard" and placements[i].dim == 0 for i in split)
    if len(split) > 1 or not by_rows:
        raise OptionError(
            f"{name!r} is distributed as {placements}: mechanisms of plasticity work on whole weights, or on "
            "those whose rows are given out once, as fully_shard does"
        )
    return split[0] if split else None


def _distributed(tensor: torch.Tensor) -> Any:
    return tensor

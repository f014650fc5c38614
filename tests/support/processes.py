"""Work that several processes do together, and what each of them found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Work = Callable[[int], dict[Any, Any]]
"""Importable; called in each process with its number, after the processes have found each other."""


def found_together(work: Work, folder: Path, processes: int) -> list[dict[Any, Any]]:
    """Let processes with gloo between them work, and give what each of them found, by number."""
    torch.multiprocessing.spawn(_be_one, (work, str(folder), processes), nprocs=processes)
    return [torch.load(folder / f"{rank}.pt") for rank in range(processes)]


def _be_one(rank: int, work: Work, folder: str, processes: int) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=processes
    )
    torch.save(work(rank), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()

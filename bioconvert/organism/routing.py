"""Which branches take part: some tags for all samples, or a router's choice for each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from bioconvert.organism.node import Node, branches_of
from bioconvert.organism.router import ROUTER, LastLoss, Score, begin_router, router_record
from bioconvert.organism.seats import Seat, seat_of

if TYPE_CHECKING:
    from bioconvert.organism.organism import Organism


def let_router_choose(
    organism: Organism, node: Node | str, top_k: int, load_balance: float, features: int | None
) -> list[Seat]:
    """Put a router on a node, or change the one it has.

    Returns:
        The branches that got parameters for it.
    """
    host = seat_of(organism.seats, node).host
    before = host.node_record.get(ROUTER)
    size = features if before is None else before["features"]
    host.node_record[ROUTER] = router_record(host, top_k, load_balance, size)
    return [seat for seat in organism.seats.values() if seat.host is host and began(organism, seat)]


def began(organism: Organism, seat: Seat) -> bool:
    """Give a branch of a node with a router what it is scored by, and say whether it had none."""
    branch = seat.branch
    if branch is None or ROUTER not in seat.host.node_record or ROUTER in branch._modules:
        return False
    begin_router(branch, seat.host.node_record[ROUTER], organism.record["seed"], seat.node.dynamic_id)
    return True


def balance_loss(organism: Organism) -> torch.Tensor:
    """Give the sum of all routers' imbalance in the last forward pass, and forget it."""
    found = [last.value for last in _lasts(organism) if last.value is not None]
    for last in _lasts(organism):
        last.value = None
    device = next(organism.model.parameters()).device
    return torch.stack(found).sum() if found else torch.zeros((), device=device)


def _lasts(organism: Organism) -> Iterator[LastLoss]:
    for node in organism.nodes():
        for branch in branches_of(node).values():
            score = branch._modules.get(ROUTER)
            if isinstance(score, Score):
                yield score.last

"""Which nodes learn: by ``requires_grad``, so that what lies before a frozen node still does."""

from __future__ import annotations

from collections.abc import Container, Iterator

from torch import nn

from bioconvert.organism.seats import Seat, Seats, own_parameters

GATE = "gate"


def freeze_others(seats: Seats, learning: Container[str]) -> None:
    """Let exactly the nodes of some ids learn, as far as they did before anything was frozen.

    A parameter that several nodes share learns while one of them does.
    """
    for seat in seats.values():
        thaw(seat)
    shared = {
        id(p) for name, seat in seats.items() if name in learning for p in own_parameters(seat).values()
    }
    for name, seat in seats.items():
        if name not in learning:
            freeze(seat, shared)


def freeze(seat: Seat, but: Container[int] = ()) -> None:
    """Let a node's own parameters, and its gate, learn no more.

    Args:
        seat: the node.
        but: the ``id`` of parameters that go on.
    """
    if seat.node.node_record["frozen"] is not None:
        return
    own = {name: p for name, p in own_parameters(seat).items() if p.requires_grad and id(p) not in but}
    for parameter in own.values():
        _hold(parameter)
    for parameter in _around(seat):
        _hold(parameter)
    seat.node.node_record["frozen"] = list(own)


def thaw(seat: Seat) -> None:
    """Let a node learn what it did before it was frozen."""
    held = dict(seat.node.named_parameters())
    # A layer inside may have been reverted since, with what its conversion had added.
    for name in held.keys() & set(seat.node.node_record["frozen"] or ()):
        held[name].requires_grad_(True)
    for parameter in _around(seat):
        parameter.requires_grad_(True)
    seat.node.node_record["frozen"] = None


def _around(seat: Seat) -> Iterator[nn.Parameter]:
    """Give the parameters that a branch has beside its block: its gate, and what a router scores it by."""
    for name, parameter in () if seat.branch is None else seat.branch.named_parameters():
        if not name.startswith("block."):
            yield parameter


def _hold(parameter: nn.Parameter) -> None:
    # With its gradient left, the next step would still move it.
    parameter.grad = None
    parameter.requires_grad_(False)

"""How many parameters a birth would add, before it happens."""

from __future__ import annotations

from math import prod

from torch import nn

from bioconvert.graph.grown import without_grown
from bioconvert.organism.router import ROUTER
from bioconvert.organism.seats import Seat
from bioconvert.organism.width_joints import Joint, joints_of


def added_parameters(seat: Seat, model: nn.Module, kind: str, units: int | None = None) -> int:
    """Count what growth at a node would add.

    Args:
        seat: the node.
        model: the model.
        kind: ``"branch"`` or ``"width"``.
        units: for width, the number of units in each layer; as many as it has by default.

    Raises:
        OptionError: the node can't grow in width.
    """
    if kind == "width":
        return _in_width(joints_of(seat, model), units)
    with without_grown(seat.node):
        copied = sum(p.numel() for p in seat.node.parameters())
    router = seat.host.node_record.get(ROUTER)
    return copied + 1 + (0 if router is None else router["features"] + 1)


def _in_width(joints: list[Joint], units: int | None) -> int:
    sizes: dict[nn.Parameter, list[int]] = {}
    for joint in joints:
        for parameter, axis in joint.axes:
            size = sizes.setdefault(parameter, list(parameter.shape))
            # Behind a flattened picture each unit has several places in a row.
            size[axis] += parameter.shape[axis] // joint.units * (units or joint.units)
    return sum(prod(size) - parameter.numel() for parameter, size in sizes.items())

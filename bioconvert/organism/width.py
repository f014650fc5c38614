"""Growth in width: new units in the layers of a node, born so that no output changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bioconvert.core.errors import OptionError
from bioconvert.core.random import Stream
from bioconvert.core.suggest import hint
from bioconvert.graph.resizing import resize
from bioconvert.organism.collective import insist_on_agreement, processes, refuse_sharded
from bioconvert.organism.node import Node
from bioconvert.organism.seats import Seat, seat_of
from bioconvert.organism.width_axes import (
    as_incoming_weight,
    as_outgoing_weight,
    in_size,
    incoming,
    out_size,
    unit_axis,
)
from bioconvert.organism.width_births import (
    WAYS,
    Birth,
    Directions,
    Loss,
    check_number,
    gradient_aligned,
    net2wider,
    paired,
    zero_output,
)
from bioconvert.organism.width_joints import Joint, joints_of
from bioconvert.organism.width_state import check_state, welcome

if TYPE_CHECKING:
    from bioconvert.organism.organism import Organism

_BORN: Mapping[str, Callable[[Joint, int, Stream], Birth]] = {
    "zero": zero_output,
    "paired": paired,
    "net2wider": net2wider,
}
_FRESH = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
"""What a normalisation begins with."""


@dataclass(frozen=True, slots=True, eq=False)
class Widening:
    """New units that a node is about to get.

    Args:
        seat: the node.
        joints: its layers that get them.
        units: their number, for each layer.
        by: how they arise.
        found: for gradmax, where they are to lead, by the layers' names.
    """

    seat: Seat
    joints: list[Joint]
    units: dict[str, int]
    by: str
    found: dict[str, Directions]


def grow_width(
    organism: Organism,
    wanted: Node | str,
    *,
    tag: str | None,
    by: str,
    units: int | None,
    loss: Loss | None,
    optimizer: Any,
) -> Node:
    """Give the layers of a node new units: see :meth:`~bioconvert.organism.organism.Organism.grow`."""
    if tag is not None:
        raise OptionError("tag is for a new branch: a node that grows in width keeps its own")
    seat = seat_of(organism.seats, wanted)
    refuse_sharded(seat.holder, seat.node.dynamic_id, "grow")
    number = organism.record.get("widened", 0) + 1
    stream = Stream(organism.record["seed"], f"{seat.node.dynamic_id} width {number}")
    insist_on_agreement((seat.node.dynamic_id, by, units, number), "growth in width")
    widening = planned(seat, organism.model, by=by, units=units, loss=loss, stream=stream)
    if optimizer is not None:
        organism.bind(optimizer)
    widen(widening, [binding.optimizer for binding in organism._bindings], stream)
    organism.record["widened"] = number
    organism.note("growth", seat.node, kind="width", by=by, units=widening.units)
    return seat.node


def planned(
    seat: Seat, model: nn.Module, *, by: str, units: int | None, loss: Loss | None, stream: Stream
) -> Widening:
    """Say which layers of a node get new units, and check that they can; nothing changes yet.

    Args:
        seat: the node.
        model: the model.
        by: how they arise.
        units: their number in each layer; as many as it has by default.
        loss: for gradmax, runs the model on sample data and gives the loss.
        stream: the random numbers.

    Raises:
        OptionError: they can't, or not so many, or the way is unknown.
    """
    if by not in WAYS:
        raise OptionError(f"there is no way {by!r} for units to arise. {hint(by, set(WAYS))}")
    if units is not None and (isinstance(units, bool) or not isinstance(units, int) or units < 1):
        raise OptionError(f"units must be a positive number, not {units!r}")
    if (by == "gradmax") != (loss is not None):
        raise OptionError(
            "gradmax needs loss=, a function that runs the model on sample data and gives the loss"
            if loss is None
            else f"loss= is for gradmax, not for {by!r}"
        )
    if loss is not None and processes() > 1:
        raise OptionError("gradmax would find other directions in each process: use zero or paired")
    if any(p.is_meta for p in seat.node.parameters()):
        raise OptionError(
            f"{seat.node.dynamic_id!r} is on the meta device: new units are born of the values of old ones"
        )
    joints = joints_of(seat, model)
    numbers = {joint.path: joint.units if units is None else units for joint in joints}
    for joint in joints:
        check_number(joint, numbers[joint.path], by)
    found: dict[str, Directions] = {}
    if loss is not None:
        from bioconvert.organism.width_gradient import directions

        most = max(numbers.values())
        each = directions(model, joints, most, loss, stream)
        found = {joint.path: what for joint, what in zip(joints, each, strict=True)}
    return Widening(seat, joints, numbers, by, found)


@torch.no_grad()
def widen(widening: Widening, optimizers: Iterable[torch.optim.Optimizer], stream: Stream) -> None:
    """Give the layers their new units, in place, and let optimizers follow.

    Args:
        widening: what is to be done.
        optimizers: those that may hold the layers' parameters.
        stream: the random numbers.

    Raises:
        OptionError: an optimizer keeps what can't follow; nothing has changed then.
    """
    optimizers = list(optimizers)
    for joint in widening.joints:
        for parameter, _ in joint.axes:
            for optimizer in optimizers:
                check_state(optimizer, parameter)
    for joint in widening.joints:
        units = widening.units[joint.path]
        own = Stream(stream.seed, f"{stream.name} {joint.path}")
        if joint.path in widening.found:
            birth = gradient_aligned(joint, units, own, _first(widening.found[joint.path], units))
        else:
            birth = _BORN[widening.by](joint, units, own)
        axes = [(parameter, axis, parameter.shape) for parameter, axis in joint.axes]
        for partner in joint.route.partners:
            # Copies are of the same units in all layers; whatever else is drawn is drawn for each.
            drawn = own if birth.copied is not None else Stream(own.seed, f"{own.name} gate")
            with_it = replace(joint, route=replace(joint.route, layer=partner))
            _put_units(partner, _BORN[widening.by](with_it, units, drawn))
        _put(joint, birth)
        for parameter, axis, before in axes:
            for optimizer in optimizers:
                welcome(optimizer, parameter, before, axis)


def _first(found: Directions, units: int) -> Directions:
    number = units // 2 if found.paired else units
    return Directions(found.outgoing[:, :number], found.paired, found.bias)


def _put(joint: Joint, birth: Birth) -> None:
    receiver = joint.receiver
    columns = as_outgoing_weight(receiver, torch.cat([birth.kept, birth.outgoing], 1))
    _put_units(joint.layer, birth)
    old = in_size(receiver)
    axis = 1 - unit_axis(receiver)
    resize(receiver, {"weight": columns}, dict.fromkeys(old, columns.shape[axis]))
    if joint.norm is not None:
        _put_norm(joint.norm, joint.units, len(birth.incoming), birth.copied)


def _put_units(layer: nn.Module, birth: Birth) -> None:
    rows = torch.cat([incoming(layer), birth.incoming])
    bias = layer._parameters.get("bias")
    new_bias = None if bias is None else torch.cat([bias, birth.bias])
    tensors = {"weight": as_incoming_weight(layer, rows), "bias": new_bias}
    resize(layer, tensors, out_size(layer, len(rows)))


def _put_norm(norm: nn.Module, units: int, new: int, copied: torch.Tensor | None) -> None:
    tensors = {**norm._parameters, **norm._buffers}
    by_unit = {name: tensor for name, tensor in tensors.items() if tensor is not None and tensor.dim() == 1}
    grown = {}
    for name, tensor in by_unit.items():
        old = tensor.detach().view(units, -1)
        fresh = old.new_full((new, old.shape[1]), _FRESH[name]) if copied is None else old[copied]
        grown[name] = torch.cat([old, fresh]).flatten()
    resize(norm, grown, _norm_size(norm, units, new))


def _norm_size(norm: nn.Module, units: int, new: int) -> dict[str, object]:
    if isinstance(norm, nn.GroupNorm):
        groups = norm.num_groups * (units + new) // units
        return {"num_channels": units + new, "num_groups": groups}
    if isinstance(norm, (nn.LayerNorm, nn.RMSNorm)):
        return {"normalized_shape": (units + new,)}
    return {"num_features": norm.num_features * (units + new) // units}  # type: ignore[operator]

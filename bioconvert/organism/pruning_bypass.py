"""A block of the model that has died: it hands on what it is given, and keeps its parameters for a revert."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from bioconvert.graph.grown import without_grown
from bioconvert.organism.freezing import thaw
from bioconvert.organism.merging import first_floating
from bioconvert.organism.node import BYPASSED, Node, keep_grown
from bioconvert.organism.record import Record
from bioconvert.organism.refit_samples import Batch, outputs_on
from bioconvert.organism.seats import Seat, seats_in

KEEPS_SHAPE = "keeps_shape"
"""In a node's record, whether it was seen to give a tensor of the shape that it takes."""


def bypass_refusal(model: nn.Module, node: Node, batches: Sequence[Batch]) -> str | None:
    """Say why nothing can stand for a block, if that is so.

    Args:
        model: the model.
        node: the block.
        batches: what the model is run on to see; without, what was seen while it was watched counts.
    """
    if node.node_record.get(BYPASSED) is not None:
        return "it is one already"
    if batches:
        _look(model, node, batches[0])
    seen = node.node_record.get(KEEPS_SHAPE)
    if seen is None:
        return "what shapes it takes and gives isn't known: give batches as refit"
    return None if seen else "what it gives isn't a tensor of the shape of what it takes"


def note_shapes(record: Record, given: torch.Tensor | None, output: Any) -> None:
    """Note in a node's record whether it gave a tensor of the shape that it took."""
    alike = isinstance(output, torch.Tensor) and given is not None and given.shape == output.shape
    record[KEEPS_SHAPE] = alike and record.get(KEEPS_SHAPE) is not False


def bypass(seat: Seat) -> None:
    """Let a block hand on what it is given."""
    with without_grown(seat.node):
        for each in seats_in(seat.node).values():
            thaw(each)
        held = [name for name, parameter in seat.node.named_parameters() if parameter.requires_grad]
        for name in held:
            parameter = seat.node.get_parameter(name)
            parameter.requires_grad_(False)
            parameter.grad = None
    seat.node.node_record[BYPASSED] = held
    keep_grown(seat.node)


def idle_parameters(node: Node) -> list[nn.Parameter]:
    """Give the parameters that do nothing in a node that hands on what it is given."""
    if node.node_record.get(BYPASSED) is None:
        return []
    with without_grown(node):
        return list(node.parameters())


def _look(model: nn.Module, node: Node, batch: Batch) -> None:
    given: list[torch.Tensor | None] = []

    def before(module: nn.Module, args: Any, kwargs: Any) -> None:  # noqa: ARG001
        given.append(first_floating((args, kwargs)))

    def after(module: nn.Module, args: Any, output: Any) -> None:  # noqa: ARG001
        note_shapes(node.node_record, given.pop(), output)

    handles = [
        node.register_forward_pre_hook(before, with_kwargs=True),
        node.register_forward_hook(after),
    ]
    try:
        with torch.no_grad():
            for _ in outputs_on(model, [batch]):
                pass
    finally:
        for handle in handles:
            handle.remove()

"""The birth of a branch: a copy of a node, a little apart from it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn

from bioconvert.core.random import Stream
from bioconvert.graph.grown import without_grown
from bioconvert.organism.branch import Branch
from bioconvert.organism.node import BYPASSED, Node
from bioconvert.organism.record import Record, renamed

Moment = Callable[[torch.Tensor], "torch.Tensor | None"]
BY_MOMENT = 0.1
"""Noise in units of the root of Adam's second moment, which is the size of the weight's usual gradient."""
BY_WEIGHT = 0.01
"""Noise in units of the deviation among a tensor's own values, where no moment is known."""


def clone_of(source: Node, record: Record, seed: int, moment: Moment) -> Branch:
    r"""Make a branch that is a copy of a node, with noise on every weight that learns.

    .. math::
        w' = w + 0.1 \sqrt{v} \, n, \qquad n \sim N(0, 1)

    where :math:`v` is Adam's second moment of the weight; without one, the factor of :math:`n` is 0.01 times
    the standard deviation of the values in the tensor.

    Args:
        source: the node.
        record: that of the new node.
        seed: decides the noise, with the new node's ``id``.
        moment: gives the second moment of a parameter of the node, if an optimizer has one.
    """
    with without_grown(source):
        block = copy.deepcopy(source)
        _part_ways(block, source, Stream(seed, record["id"]), moment)
    _name(block, source.dynamic_id, record)
    for name in _held(source):
        block.get_parameter(name).requires_grad_(True)
    return Branch(block)


@torch.no_grad()
def _part_ways(block: nn.Module, source: nn.Module, stream: Stream, moment: Moment) -> None:
    held = _held(source)
    for (name, new), old in zip(block.named_parameters(), source.parameters(), strict=True):
        if new.is_floating_point() and (new.requires_grad or name in held) and new.numel():
            noise = stream.normal(f"clone {name}", tuple(new.shape)).to(new.device)
            squared = moment(old)
            scale = (
                BY_WEIGHT * old.float().std(correction=0)
                if squared is None
                else BY_MOMENT * squared.float().sqrt()
            )
            new.add_((noise * scale).to(new.dtype))


def _held(source: nn.Module) -> set[str]:
    """Name the parameters that learned until the node was frozen, or handed on what it is given."""
    record = vars(source)["node_record"]
    return {*(record["frozen"] or ()), *(record.get(BYPASSED) or ())}


def _name(block: Node, old: str, record: Record) -> None:
    """Give a clone its record, and the nodes inside it names of their own."""
    for module in block.modules():
        if isinstance(module, Node) and module is not block:
            for key in ("id", "of"):
                if module.node_record[key] is not None:
                    module.node_record[key] = renamed(module.node_record[key], old, record["id"])
    vars(block)["node_record"] = record

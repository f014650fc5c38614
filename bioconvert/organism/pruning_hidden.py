"""Which units of a block are hidden: those that one layer inside of it takes, and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from bioconvert.core.errors import OptionError, Refused
from bioconvert.core.families import family_of, family_root
from bioconvert.graph.flow import Graphs
from bioconvert.graph.grown import grown_names, without_grown
from bioconvert.graph.receivers import has_units_or_columns, route_of
from bioconvert.graph.session import sweep
from bioconvert.graph.tree import ModuleTree
from bioconvert.organism.refit import is_dense, matrix_of

_OWN = frozenset({"weight", "bias"})


@dataclass(frozen=True, slots=True, eq=False)
class Hidden:
    """The hidden units of a layer.

    Args:
        path: the layer's dotted name in its node.
        layer: the layer, one unit for each row of its weight.
        receiver: the layer that takes what they give.
        norm: the normalisation in between, if there is one.
    """

    path: str
    layer: nn.Module
    receiver: nn.Module
    norm: nn.Module | None

    @property
    def weight(self) -> torch.Tensor:
        """The incoming weights, one row for each unit."""
        return matrix_of(self.layer)

    @property
    def count(self) -> int:
        """The number of units."""
        return len(self.weight)

    @property
    def places(self) -> int:
        """How many of the receiver's inputs come from one unit, as where a picture was flattened."""
        if family_root(type(self.receiver), "conv") is not None:
            return 1
        return matrix_of(self.receiver).shape[1] // self.count

    def columns(self, units: torch.Tensor) -> torch.Tensor:
        """Give the places of some units among the inputs of the receiver."""
        return (units[:, None] * self.places + torch.arange(self.places, device=units.device)).flatten()

    def by_unit(self, x: torch.Tensor) -> torch.Tensor:
        """Give what the receiver takes as [samples, units, values of each]."""
        if family_root(type(self.receiver), "conv") is not None:
            return x.flatten(2)
        return x.reshape(len(x), -1, self.count, self.places).transpose(1, 2).flatten(2)


def hidden_units(model: nn.Module, node: nn.Module) -> list[Hidden]:
    """Find the hidden units of a node's own layers, in the order of its modules.

    Args:
        model: the model that holds the node.
        node: the node.

    Raises:
        OptionError: there are none, with the reason for each layer.
    """
    found: list[Hidden] = []
    reasons: list[str] = []
    tied = _tied(model)
    with without_grown(node):
        graphs = Graphs(ModuleTree(node))
        sweep(lambda: _look(graphs, tied, found, reasons))
    if not found:
        told = "\n".join(reasons) or "it holds no Linear and no convolution"
        raise OptionError(f"the node has no hidden units that can go:\n{told}")
    return found


def _look(graphs: Graphs, tied: set[int], found: list[Hidden], reasons: list[str]) -> None:
    for place in graphs.tree.modules():
        if family_of(type(place.module)) in ("linear", "conv"):
            try:
                found.append(_hidden(place.name, place.module, graphs, tied))
            except Refused as reason:
                reasons.append(f"{place.name!r}: {reason}")


def _hidden(path: str, layer: nn.Module, graphs: Graphs, tied: set[int]) -> Hidden:
    _check_own(layer, tied)
    route = route_of(layer, graphs, has_units_or_columns)
    norm = route.norm
    _check_own(route.receiver, tied)
    if norm is not None and not isinstance(norm, _BatchNorm):
        raise Refused(f"{type(norm).__name__} behind it mixes its units")
    if norm is not None and id(norm) in tied:
        raise Refused(f"the {type(norm).__name__} behind it is used elsewhere, too")
    hidden = Hidden(path, layer, route.receiver, norm)
    between = (place.module for place in graphs.tree.modules())
    if any(getattr(each, "num_parameters", 1) == hidden.count > 1 for each in between):
        raise Refused("a PReLU has a slope for each unit")
    return hidden


def _check_own(layer: nn.Module, tied: set[int]) -> None:
    """Refuse layers of which more than weight and bias tells of units, or that others share."""
    name = type(layer).__name__
    if not is_dense(layer):
        raise Refused(f"a {name} with groups, transposed or without a weight of its own isn't pruned")
    if grown_names(layer):
        raise Refused(f"the {name} is a node with branches, which have the same units: prune those first")
    own = {**layer._parameters, **layer._buffers}
    more = [key for key, value in own.items() if key not in _OWN and value is not None and value.numel() > 1]
    if more or "parametrizations" in layer._modules:
        raise Refused(f"the {name} holds more than weight and bias: {', '.join(more) or 'parametrizations'}")
    if id(layer) in tied or any(id(p) in tied for p in layer.parameters()):
        raise Refused(f"the {name}, or its weight, is used elsewhere, too")


def _tied(model: nn.Module) -> set[int]:
    """Give the ``id`` of modules with several names and of parameters with several holders."""
    return {key for key, count in Counter(_held(model)).items() if count > 1}


def _held(model: nn.Module) -> Iterator[int]:
    tree = ModuleTree(model)
    yield from (id(place.module) for place in tree.places)
    for place in tree.modules():
        yield from (id(p) for p in place.module._parameters.values() if p is not None)

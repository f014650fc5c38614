r"""Parting units that excite and inhibit into one that excites and one that inhibits.

Behind an activation :math:`\phi`, a unit :math:`h_j` with outgoing weights :math:`w_j` of both signs becomes
two with the same incoming weights, and the network computes what it did:

.. math::
    w_j \, \phi(h_j) = \max(w_j, 0) \, \phi(h_j) - \max(-w_j, 0) \, \phi(h_j)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from bioconvert.core.errors import OptionError
from bioconvert.graph.activations import ACTIVATIONS
from bioconvert.graph.classes import STEPS
from bioconvert.graph.flow import Graphs
from bioconvert.graph.session import sweep
from bioconvert.graph.trace import Untraceable
from bioconvert.graph.tree import ModuleTree
from bioconvert.graph.walk import Mismatch
from bioconvert.plasticity.sides import sending_side
from bioconvert.ruleset import Link

_SIZES: dict[type[nn.Module], tuple[str, str]] = {
    nn.Linear: ("out_features", "in_features"),
    nn.Conv1d: ("out_channels", "in_channels"),
    nn.Conv2d: ("out_channels", "in_channels"),
    nn.Conv3d: ("out_channels", "in_channels"),
}
"""The classes of layers whose units can be parted, with the attributes that say how many there are."""
_ACTIVATION = Link(alternatives=tuple(sorted(ACTIVATIONS)), optional=True)


@dataclass(frozen=True, slots=True)
class SplitUnits:
    """The hidden units between two layers, after they were parted.

    Args:
        path: dotted name of the layer before.
        behind: dotted name of the layer behind.
        before: number of units there were.
        after: number of units there are.
    """

    path: str
    behind: str
    before: int
    after: int


def dale_split(model: nn.Module) -> tuple[SplitUnits, ...]:
    """Give each hidden unit synapses of one sign, without a change of what the model computes.

    Wherever one Linear, or one convolution of a kind, follows another with at most an activation between
    them, each unit whose outgoing weights have both signs becomes an excitatory and an inhibitory one. Both
    layers grow: the copies come after the units there were. Their parameters are new ones, so this comes
    before an optimizer is made, and before a conversion: nothing reverts it, and a saved model is loaded into
    one that was split likewise.

    Args:
        model: the model, changed in place.

    Returns:
        What became of the units of each pair of layers.

    Raises:
        OptionError: there is no such pair; the model is as it was.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> x, before = torch.ones(2, 4), model(torch.ones(2, 4))
        >>> (split,) = dale_split(model)
        >>> split.before, bool(torch.allclose(model(x), before, atol=1e-5))
        (8, True)
        >>> bool(((model[2].weight >= 0).all(0) | (model[2].weight <= 0).all(0)).all())
        True
    """
    tree = ModuleTree(model)
    pairs: list[tuple[nn.Module, nn.Module]] = []
    sweep(lambda: pairs.extend(_pairs(tree)))
    if not pairs:
        raise OptionError(
            "there are no hidden units to part: no Linear or convolution is followed by another of its kind, "
            "with at most an activation between them, and both plain, untied and used once"
        )
    with torch.no_grad():
        return tuple(_part(tree, layer, behind) for layer, behind in pairs)


def _pairs(tree: ModuleTree) -> Iterator[tuple[nn.Module, nn.Module]]:
    """Give each layer whose units only another one has a use for, with that one."""
    graphs = Graphs(tree)
    held = Counter(id(p) for place in tree.modules() for p in place.module._parameters.values())
    for place in tree.modules():
        layer = place.module
        if _is_plain(layer, held):
            behind = _layer_behind(graphs, layer)
            if behind is not None and type(behind) is type(layer) and _is_plain(behind, held):
                yield layer, behind


def _is_plain(layer: nn.Module, held: Counter[int]) -> bool:
    if type(layer) not in _SIZES or STEPS in vars(layer) or "parametrizations" in layer._modules:
        return False
    own = [p for p in layer._parameters.values() if p is not None]
    return getattr(layer, "groups", 1) == 1 and len(own) > 0 and all(held[id(p)] == 1 for p in own)


def _layer_behind(graphs: Graphs, layer: nn.Module) -> nn.Module | None:
    """Give the one layer that takes a layer's output, if there is one."""
    link = Link(alternatives=(type(layer).__name__,))
    try:
        ends = [chain.hits for chain in graphs.following(layer, (_ACTIVATION, link)).chains]
        behind = {hits[-1].module for hits in ends}
        found = behind.pop() if len(behind) == 1 else None
        if found is None:
            return None
        calls = {node for caller in graphs.callers(found) for node in graphs.all_calls(caller.module, found)}
    except (Mismatch, Untraceable):
        return None
    # Another call would bring units of another layer; an activation with rates has one for each unit.
    between = [hit.module for hits in ends for hit in hits[:-1] if hit.module is not None]
    others = calls - {hits[-1].node for hits in ends}
    return None if others or any(list(module.parameters()) for module in between) else found


def _part(tree: ModuleTree, layer: nn.Module, behind: nn.Module) -> SplitUnits:
    """Part the units between two layers."""
    outgoing = behind._parameters["weight"]
    assert outgoing is not None
    side = sending_side(behind)
    excitatory, inhibitory = side.sums(outgoing.relu()) > 0, side.sums((-outgoing).relu()) > 0
    mixed = (excitatory & inhibitory).nonzero().flatten()
    copies = outgoing[:, mixed].clamp(max=0)
    kept = outgoing.clone()
    kept[:, mixed] = kept[:, mixed].relu()
    _resize(behind, "weight", torch.cat((kept, copies), 1))
    for name, parameter in layer._parameters.items():
        if parameter is not None:
            _resize(layer, name, torch.cat((parameter, parameter[mixed])))
    before, after = outgoing.shape[1], outgoing.shape[1] + len(mixed)
    setattr(layer, _SIZES[type(layer)][0], after)
    setattr(behind, _SIZES[type(behind)][1], after)
    return SplitUnits(tree.names_of(layer)[0], tree.names_of(behind)[0], before, after)


def _resize(layer: nn.Module, name: str, value: torch.Tensor) -> None:
    """Put a parameter of another shape in the place of one.

    It is a new object: graphs that are alive have taken note of the old one's shape.
    """
    old = layer._parameters[name]
    assert old is not None
    layer._parameters[name] = nn.Parameter(value, requires_grad=old.requires_grad)

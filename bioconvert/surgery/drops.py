"""Leaving out activations: as a change of the activation's class, or of the forward that calls it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import fx, nn

from bioconvert.core.change import Change
from bioconvert.graph.edits import Drop
from bioconvert.graph.flow import Following, Graphs, called_module, calls
from bioconvert.graph.tree import ModuleTree, Place
from bioconvert.layers.dropped import Dropped
from bioconvert.ruleset import Link
from bioconvert.surgery.steps import Dropping

DROPPED = Change(into=Dropped, summary="gives its input back")


@dataclass(frozen=True, slots=True)
class DropRequest:
    """The activations that one replaced layer makes superfluous.

    Args:
        layer: the replaced layer.
        rule: name of the rule.
        links: the pattern that the activations were found by.
        following: what follows the layer's calls.
        tree: the modules of the model.
    """

    layer: nn.Module
    rule: str
    links: tuple[Link, ...]
    following: Following
    tree: ModuleTree

    def dropping(self) -> Dropping | None:
        """Give the activation for the record, if it is one and the same behind every call."""
        found = {(c.activation.name, c.norm) for c in self.following.chains if c.activation is not None}
        if len(found) != 1:
            return None
        name, norm = found.pop()
        return Dropping(name, self.tree.names_of(norm)[0] if norm is not None else None)

    def names(self) -> list[str]:
        """Name the activations that go, by their classes."""
        found = {chain.activation.name for chain in self.following.chains if chain.activation is not None}
        return sorted(found)


@dataclass(frozen=True, slots=True)
class Drops:
    """What has to be done to leave out all requested activations.

    Args:
        modules: activation modules of which every call goes, each with the rule's name.
        rewrites: containers that need a forward without some calls, with the edits and the rule's name.
    """

    modules: tuple[tuple[nn.Module, str], ...]
    rewrites: tuple[tuple[nn.Module, tuple[Drop, ...], str], ...]


def arrange(requests: Sequence[DropRequest], graphs: Graphs) -> Drops:
    """Find the least intrusive way to leave out what is requested.

    A module whose every call goes changes its class; otherwise the container that calls it is rewritten.
    """
    going = {node for request in requests for chain in request.following.chains for node in chain.dropped}
    modules: dict[nn.Module, str] = {}
    rewrites: dict[nn.Module, tuple[list[Drop], str]] = {}
    for request in requests:
        for place in request.following.containers:
            whole, part = _split(request, place, graphs, going)
            modules.update(dict.fromkeys(whole, request.rule))
            if part:
                edits, _ = rewrites.setdefault(place.module, ([], request.rule))
                edits.extend(_edits(request, place, graphs))
    return Drops(
        tuple(modules.items()),
        tuple((container, tuple(edits), rule) for container, (edits, rule) in rewrites.items()),
    )


def _split(
    request: DropRequest, place: Place, graphs: Graphs, going: set[fx.Node]
) -> tuple[set[nn.Module], bool]:
    """Tell activations that go as whole modules from the need to rewrite the container."""
    whole: set[nn.Module] = set()
    part = False
    for node in _dropped_in(request, place, graphs):
        module = called_module(node, place.module)
        if module is not None and _goes_wholly(module, place.module, graphs, going):
            whole.add(module)
        else:
            part = True
    return whole, part


def _dropped_in(request: DropRequest, place: Place, graphs: Graphs) -> Iterable[fx.Node]:
    graphs_here = {id(variant.graph) for variant in graphs.variants(place.module)}
    for chain in request.following.chains:
        yield from (node for node in chain.dropped if id(node.graph) in graphs_here)


def _goes_wholly(module: nn.Module, container: nn.Module, graphs: Graphs, going: set[fx.Node]) -> bool:
    if len(graphs.tree.places_of(module)) > 1:
        return False
    every = (calls(variant.graph, container, module) for variant in graphs.variants(container))
    return all(node in going for nodes in every for node in nodes)


def _edits(request: DropRequest, place: Place, graphs: Graphs) -> list[Drop]:
    return [
        Drop(own.path_from(place.module), request.links)
        for own in graphs.tree.places_of(request.layer)
        if any(above.module is place.module for above in own.ancestors())
    ]

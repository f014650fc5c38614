"""Leaving out what a replaced layer makes superfluous: by a change of its class, or of who calls it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import fx, nn

from bioconvert.core.change import Change
from bioconvert.core.errors import Refused
from bioconvert.graph.edits import Drop, Edit, Fade, Part, part_of
from bioconvert.graph.flow import Following, Graphs, Hit, Segment
from bioconvert.graph.nodes import norm_module
from bioconvert.graph.tree import ModuleTree
from bioconvert.layers.dropped import Dropped
from bioconvert.surgery.morphing import Follower
from bioconvert.surgery.step import Dropping

DROPPED = Change(into=Dropped, summary="gives its input back")


@dataclass(frozen=True, slots=True)
class DropRequest:
    """What one replaced layer makes superfluous.

    Args:
        rule: name of the rule.
        following: what follows the layer's calls.
        parts: what of it goes.
        fading: number of steps over which the activations go; 0 if they go at once.
        absorbed: whether a morphing layer goes on using what goes.
        device: where the layer is.
        tree: the modules of the model.
    """

    rule: str
    following: Following
    parts: tuple[Part, ...]
    fading: int
    absorbed: bool
    device: torch.device | None
    tree: ModuleTree

    def dropping(self) -> Dropping | None:
        """Give the activation for the record, if it is one and the same behind every call."""
        found = {(chain.activation_name, chain.norm) for chain in self.following.chains}
        if len(found) != 1:
            return None
        name, norm = found.pop()
        path = self.tree.names_of(norm)[0] if norm is not None else None
        activation = name if "activation" in self.parts and name is not None else ""
        return Dropping(activation, path, "norm" in self.parts)

    def names(self) -> list[str]:
        """Name the activations that go, by their classes."""
        if "activation" not in self.parts:
            return []
        return sorted({c.activation_name for c in self.following.chains if c.activation_name is not None})

    def hits(self) -> Iterator[Hit]:
        """Give the calls that go."""
        for chain in self.following.chains:
            yield from (hit for hit in chain.hits if part_of(hit.node, hit.container) in self.parts)


@dataclass(frozen=True, slots=True)
class ModuleDrop:
    """A module of which every call goes.

    Args:
        module: the module.
        rule: name of the rule.
        fading: number of steps over which it goes; 0 if it goes at once.
        used: whether a morphing layer goes on using it, or it fades.
        device: where the layer is that it goes with.
    """

    module: nn.Module
    rule: str
    fading: int
    used: bool
    device: torch.device | None


@dataclass(frozen=True, slots=True)
class Drops:
    """What has to be done to leave out all that is requested.

    Args:
        modules: modules of which every call goes.
        rewrites: containers that need a forward without some calls, with the edits and the rule's name.
        idle: normalisations that do their work in a forward of their own, which is left out of it.
    """

    modules: tuple[ModuleDrop, ...]
    rewrites: tuple[tuple[nn.Module, tuple[Edit, ...], str], ...]
    idle: tuple[nn.Module, ...]


def arrange(requests: Sequence[DropRequest], graphs: Graphs) -> Drops:
    """Find the least intrusive way to leave out what is requested.

    A module whose every call goes changes its class; otherwise the container that calls it is rewritten.
    """
    going = {hit.node for request in requests for hit in request.hits()}
    modules: dict[nn.Module, ModuleDrop] = {}
    rewrites: dict[nn.Module, tuple[dict[Edit, None], str]] = {}
    idle: dict[nn.Module, None] = {}
    for request in requests:
        for hit in request.hits():
            module = hit.module
            if module is not None and _goes_wholly(module, hit.container, graphs, going):
                modules[module] = ModuleDrop(
                    module,
                    request.rule,
                    request.fading,
                    request.absorbed or request.fading > 0,
                    request.device,
                )
            else:
                edits, _ = rewrites.setdefault(hit.container, ({}, request.rule))
                edits[_edit(request, hit.segment)] = None
                if module is None and hit.is_norm and norm_module(hit.node, hit.container) is hit.container:
                    idle[hit.container] = None
    return Drops(
        tuple(modules.values()),
        tuple((container, tuple(edits), rule) for container, (edits, rule) in rewrites.items()),
        tuple(idle),
    )


def _edit(request: DropRequest, segment: Segment) -> Edit:
    if request.fading:
        return Fade(segment.entry, segment.links, request.fading)
    return Drop(segment.entry, segment.links, request.parts)


def _goes_wholly(module: nn.Module, container: nn.Module, graphs: Graphs, going: set[fx.Node]) -> bool:
    if len(graphs.tree.places_of(module)) > 1:
        return False
    return all(node in going for node in graphs.all_calls(container, module))


def only_norm(following: Following, graphs: Graphs) -> nn.Module | None:
    """Give the normalisation behind a layer, if there is one.

    Raises:
        Refused: it isn't the same behind every call, or others use it too.
    """
    hits = [hit for chain in following.chains for hit in chain.norms]
    if not hits:
        return None
    norms = {chain.norm for chain in following.chains}
    norm = norms.pop()
    if norms or norm is None:
        raise Refused("it isn't followed by one and the same normalisation module everywhere")
    here = {hit.node for hit in hits}
    for hit in hits:
        if hit.module is not None and any(
            node not in here for node in graphs.all_calls(hit.container, hit.module)
        ):
            raise Refused(f"its {type(norm).__name__} is shared with another path")
    if len(graphs.tree.places_of(norm)) > 1:
        raise Refused(f"its {type(norm).__name__} goes by several names")
    return norm


def followers(following: Following, parts: Sequence[Part]) -> tuple[Follower, ...]:
    """Give what the output of a morphing layer's original goes through: all that goes with the layer.

    Raises:
        Refused: it isn't the same behind every call, or can't be called from the layer.
    """
    found = {tuple(_follower(hit) for hit in _in(chain.hits, parts)) for chain in following.chains}
    if len(found) != 1:
        raise Refused("`morph` needs one and the same activation behind every call of the layer")
    return found.pop()


def _in(hits: Sequence[Hit], parts: Sequence[Part]) -> Iterator[Hit]:
    return (hit for hit in hits if part_of(hit.node, hit.container) in parts)


def _follower(hit: Hit) -> Follower:
    if hit.module is not None:
        return hit.module
    activation = hit.activation
    if activation is None:
        raise Refused(f"`morph` can't take in {hit.node.name}, a function whose arguments are computed")
    return activation.apply

"""What is changed in the graph of one container's forward."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import fx, nn

from bioconvert.functional.blending import fade
from bioconvert.graph.nodes import activation_of, is_norm
from bioconvert.graph.trace import Untraceable
from bioconvert.graph.walk import Entry, Links, Mismatch, walk

Part = Literal["activation", "norm"]
FADE_STEP = "morph_step"
"""The container's buffer that counts the steps of what fades."""


class Edit(Protocol):
    """One change of a container's graph, which can be made in every graph that the container has."""

    def apply(self, graph: fx.Graph, container: nn.Module, *, strict: bool) -> None:
        """Edit a graph of the container's forward.

        Args:
            graph: the graph, changed in place.
            container: the module whose forward it is.
            strict: whether it is an error that there is nothing to edit; not where the forward was traced
                again because a flag has another value.

        Raises:
            Untraceable: there is nothing to edit.
        """
        ...


@dataclass(frozen=True, slots=True)
class Drop:
    """Leave out what follows a value.

    Args:
        entry: where the value comes into the container.
        links: the pattern that is followed from there on.
        parts: what of it is left out.
    """

    entry: Entry
    links: Links
    parts: tuple[Part, ...] = ("activation",)

    def apply(self, graph: fx.Graph, container: nn.Module, *, strict: bool) -> None:
        """See :class:`Edit`."""
        for node in hits_of(self.entry, self.links, graph, container, strict=strict):
            if part_of(node, container) in self.parts:
                node.replace_all_uses_with(_input_of(node))
                graph.erase_node(node)


@dataclass(frozen=True, slots=True)
class Fade:
    """Let the activations that follow a value go over to doing nothing, as the container's step advances.

    Args:
        entry: where the value comes into the container.
        links: the pattern that is followed from there on.
        steps: number of steps that it takes.
    """

    entry: Entry
    links: Links
    steps: int

    @property
    def drop(self) -> Drop:
        """What it has become when all steps are done."""
        return Drop(self.entry, self.links)

    def apply(self, graph: fx.Graph, container: nn.Module, *, strict: bool) -> None:
        """See :class:`Edit`."""
        for node in hits_of(self.entry, self.links, graph, container, strict=strict):
            if part_of(node, container) == "activation":
                self._fade(node, graph)

    def _fade(self, node: fx.Node, graph: fx.Graph) -> None:
        given = _input_of(node)
        with graph.inserting_before(node):
            # The activation may work in place, and what it is given is needed afterwards.
            node.replace_input_with(given, graph.call_method("clone", (given,)))
        with graph.inserting_after(node):
            step = graph.get_attr(FADE_STEP)
        with graph.inserting_after(step):
            faded = graph.call_function(fade, (node, given, step, self.steps))
        node.replace_all_uses_with(faded, delete_user_cb=lambda user: user is not faded)


def hits_of(
    entry: Entry, links: Links, graph: fx.Graph, container: nn.Module, *, strict: bool
) -> Iterator[fx.Node]:
    """Give what a pattern meets in one graph.

    Raises:
        Untraceable: with ``strict``, if the pattern isn't there.
    """
    for start in entry.nodes(graph, container):
        try:
            found = walk(start, links, container)
        except Mismatch as reason:
            if strict:
                raise Untraceable(f"{'.'.join(entry.child) or entry.argument!r}: {reason}") from reason
            continue
        yield from found.hits


def part_of(node: fx.Node, container: nn.Module) -> Part | None:
    """Say what a node is in a chain that follows a layer."""
    if activation_of(node, container) is not None:
        return "activation"
    return "norm" if is_norm(node, container) else None


def _input_of(node: fx.Node) -> fx.Node:
    given = node.args[0] if node.args else node.kwargs["input"]
    if not isinstance(given, fx.Node):
        raise Untraceable(f"{node.name} has no traced input")
    return given

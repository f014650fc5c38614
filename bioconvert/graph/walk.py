"""Following a value through the graph of one container, as far as a pattern and the container reach."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import fx, nn

from bioconvert.graph.nodes import (
    Element,
    called_module,
    calls,
    consumers,
    describe,
    element_of,
    element_users,
    matches,
    may_enter,
    wanted,
)
from bioconvert.graph.trace import Untraceable
from bioconvert.ruleset import Link

Links = tuple[Link, ...]


class Mismatch(Exception):  # noqa: N818 - ordinary control flow, named for what it says
    """Raised where the data flow isn't what a rule asks for; carries the reason."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a value comes into a container's graph.

    Args:
        child: names of the children that lead from the container to the module whose output it is.
        argument: name of the container's argument that it is, if it comes from outside.
        element: the element of that output that it is; ``None`` for the whole.
    """

    child: tuple[str, ...] = ()
    argument: str = ""
    element: Element | None = None

    def nodes(self, graph: fx.Graph, container: nn.Module) -> list[fx.Node]:
        """Give the nodes of a graph that stand for the value.

        Raises:
            Untraceable: the container has no such child.
        """
        if self.argument:
            return [node for node in graph.nodes if node.op == "placeholder" and node.target == self.argument]
        module = container
        for name in self.child:
            inner = module._modules.get(name)
            if inner is None:
                raise Untraceable(f"there is no layer {'.'.join(self.child)!r}")
            module = inner
        found = calls(graph, container, module)
        return [each for call in found for each in element_users(call, self.element)]


@dataclass(frozen=True, slots=True, eq=False)
class Walk:
    """What was met on the way through one container.

    Args:
        hits: the nodes that the pattern asked for, in the order of the data flow.
        pending: what the pattern still asks for.
        end: the node at which the value leaves the container, upwards (its ``output``) or into a child;
            ``None`` where the pattern came to its end.
        value: the node whose output it is by then.
    """

    hits: tuple[fx.Node, ...]
    pending: Links
    end: fx.Node | None
    value: fx.Node

    @property
    def element(self) -> Element | None:
        """The element of the container's result that the value is given back as.

        Raises:
            Mismatch: it is part of something else, or given back twice.
        """
        assert self.end is not None
        try:
            return element_of(self.end, self.value)
        except KeyError:
            raise Mismatch("its container gives it back inside of something else") from None


def walk(start: fx.Node, links: Links, container: nn.Module) -> Walk:
    """Follow a value through a graph.

    Modules that pass their input on (``nn.Identity``) may stand between what the pattern asks for.

    Raises:
        Mismatch: the pattern asks for something else, or the output goes to several places.
    """
    hits: list[fx.Node] = []
    value, pending = start, links
    while pending:
        users = consumers(value)
        if len(users) != 1:
            return _stopped(hits, pending, value, _several(users, container))
        user = users[0]
        if isinstance(called_module(user, container), nn.Identity):
            value = user
            continue
        position = _next_match(user, pending, container)
        if position is not None:
            hits.append(user)
            value, pending = user, pending[position + 1 :]
        elif _leads_on(user, container):
            return Walk(tuple(hits), pending, user, value)
        else:
            reason = f"it is followed by {describe(user, container)}, not by {wanted(_required(pending))}"
            return _stopped(hits, pending, value, reason)
    return Walk(tuple(hits), pending, None, value)


def all_optional(links: Links) -> bool:
    """Say whether a pattern asks for nothing that must be there."""
    return all(link.optional for link in links)


def _required(links: Links) -> Link:
    return next((link for link in links if not link.optional), links[0])


def _stopped(hits: list[fx.Node], pending: Links, value: fx.Node, reason: str) -> Walk:
    if not all_optional(pending):
        raise Mismatch(reason)
    return Walk(tuple(hits), (), None, value)


def _several(users: list[fx.Node], container: nn.Module) -> str:
    places = ", ".join(_place(user, container) for user in users) or "nothing"
    return f"its output goes to {len(users)} places ({places}), not to one"


def _place(user: fx.Node, container: nn.Module) -> str:
    return "the container's end" if user.op == "output" else describe(user, container)


def _reachable(links: Links) -> Iterator[int]:
    """Give the positions of a pattern that may come next: up to the first that must be there."""
    for position, link in enumerate(links):
        yield position
        if not link.optional:
            return


def _next_match(user: fx.Node, links: Links, container: nn.Module) -> int | None:
    return next((i for i in _reachable(links) if matches(user, links[i], container)), None)


def _leads_on(user: fx.Node, container: nn.Module) -> bool:
    if user.op == "output":
        return True
    module = called_module(user, container)
    return module is not None and may_enter(module)

"""Following a layer's output through the graphs of a model's containers, across their borders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import fx, nn

from bioconvert.core.change import Activation
from bioconvert.graph.arguments import forward_signature
from bioconvert.graph.nodes import (
    activation_of,
    called_module,
    element_users,
    is_norm,
    norm_module,
)
from bioconvert.graph.trace import Trace, Untraceable, set_training, trace
from bioconvert.graph.tree import ModuleTree, Place
from bioconvert.graph.walk import Entry, Links, Mismatch, Walk, all_optional, walk

_MOST_CONTAINERS = 16
"""Through which a value is followed: real models need three or four."""


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """The part of a chain that lies in one container.

    Args:
        place: the container.
        entry: where the value comes into it.
        links: what the pattern asked for from there on.
        walk: what was met.
    """

    place: Place
    entry: Entry
    links: Links
    walk: Walk


@dataclass(frozen=True, slots=True, eq=False)
class Hit:
    """One thing that a pattern asked for.

    Args:
        segment: the part of the chain that it lies in.
        node: its node in the container's graph.
    """

    segment: Segment
    node: fx.Node

    @property
    def container(self) -> nn.Module:
        """The container whose graph the node is in."""
        return self.segment.place.module

    @property
    def module(self) -> nn.Module | None:
        """The module that the node calls, if it calls one."""
        return called_module(self.node, self.container)

    @property
    def activation(self) -> Activation | None:
        """The activation that it is, if what it does is known."""
        found = activation_of(self.node, self.container)
        return found[1] if found is not None else None

    @property
    def is_activation(self) -> bool:
        """Whether it is an activation."""
        return activation_of(self.node, self.container) is not None

    @property
    def is_norm(self) -> bool:
        """Whether it normalises."""
        return is_norm(self.node, self.container)


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """What follows one call of a layer, in one variant of each graph on the way."""

    segments: tuple[Segment, ...]

    @property
    def hits(self) -> tuple[Hit, ...]:
        """What the pattern asked for, in the order of the data flow."""
        return tuple(Hit(segment, node) for segment in self.segments for node in segment.walk.hits)

    @property
    def activations(self) -> tuple[Hit, ...]:
        """The activations among the hits."""
        return tuple(hit for hit in self.hits if hit.is_activation)

    @property
    def norms(self) -> tuple[Hit, ...]:
        """The normalisations among the hits."""
        return tuple(hit for hit in self.hits if hit.is_norm and not hit.is_activation)

    @property
    def norm(self) -> nn.Module | None:
        """The module of the only normalisation, if it is known."""
        found = {norm_module(hit.node, hit.container) for hit in self.norms}
        return found.pop() if len(found) == 1 else None

    @property
    def activation_name(self) -> str | None:
        """The class name of the last activation."""
        found = [activation_of(hit.node, hit.container) for hit in self.activations]
        return found[-1][0] if found and found[-1] is not None else None

    @property
    def activation(self) -> Activation | None:
        """The only activation, if what it does is known, also to what stands before it."""
        hits = self.activations
        if len(hits) != 1 or (self.norms and self.norm is None):
            return None
        return hits[0].activation


@dataclass(frozen=True, slots=True)
class Following:
    """What follows a layer, over all its calls.

    Args:
        chains: what follows each call, in every variant of each container's graph.
    """

    chains: tuple[Chain, ...]


@dataclass
class Graphs:
    """The graphs of a model's containers, each traced when first asked for."""

    tree: ModuleTree
    _traces: dict[int, tuple[Trace, ...] | Untraceable] = field(default_factory=dict)
    _calls: dict[int, dict[int, list[fx.Node]]] = field(default_factory=dict)

    def variants(self, container: nn.Module) -> tuple[Trace, ...]:
        """Give a container's traces: as it is, and in training and evaluation where these differ.

        Raises:
            Untraceable: with the reason.
        """
        if id(container) not in self._traces:
            try:
                self._traces[id(container)] = trace_variants(container)
            except Untraceable as reason:
                self._traces[id(container)] = reason
        found = self._traces[id(container)]
        if isinstance(found, Untraceable):
            raise found
        return found

    @property
    def untraceable(self) -> dict[str, str]:
        """The containers that were asked for and can't be traced, each with the reason."""
        names = {id(place.module): place.name for place in self.tree.modules()}
        return {
            names[key]: str(found) for key, found in self._traces.items() if isinstance(found, Untraceable)
        }

    def calls(self, variant: Trace, container: nn.Module, module: nn.Module) -> list[fx.Node]:
        """Give the nodes of one of a container's graphs that call a module."""
        key = id(variant.graph)
        if key not in self._calls:
            index: dict[int, list[fx.Node]] = {}
            for node in variant.graph.nodes:
                called = called_module(node, container)
                if called is not None:
                    index.setdefault(id(called), []).append(node)
            self._calls[key] = index
        return self._calls[key].get(id(module), [])

    def all_calls(self, container: nn.Module, module: nn.Module) -> list[fx.Node]:
        """Give the nodes of all of a container's graphs that call a module."""
        return [
            node for variant in self.variants(container) for node in self.calls(variant, container, module)
        ]

    def callers(self, module: nn.Module) -> tuple[Place, ...]:
        """Give the containers that call a module: for each of its names the nearest, and who reaches in.

        Raises:
            Untraceable: a container that may call it can't be traced, or none calls it.
        """
        places = self.tree.places_of(module)
        found = {id(above.module): above for place in places for above in self._callers(place)}
        return tuple(found.values())

    def _callers(self, place: Place) -> Iterator[Place]:
        nearest = None
        for above in place.ancestors():
            if not has_forward(above.module):
                continue
            try:
                calls_it = bool(self.all_calls(above.module, place.module))
            except Untraceable as reason:
                if nearest is not None:
                    continue  # it would have to reach into a container that calls the module by itself
                name = f"{type(above.module).__name__} {above.name!r}"
                raise Untraceable(f"the container {name} can't be traced: {reason}") from reason
            if calls_it:
                nearest = nearest or above
                yield above
        if nearest is None:
            raise Untraceable("no container that can be traced calls it")

    def following(self, module: nn.Module, links: Links) -> Following:
        """Say what follows every call of a module.

        Raises:
            Untraceable: the calls can't be seen.
            Mismatch: what follows isn't what ``links`` asks for.
        """
        chains = tuple(self._after(module, None, links, ()))
        if not chains:
            raise Mismatch("nothing uses its output")
        return Following(chains)

    def _after(
        self, module: nn.Module, element: int | str | None, links: Links, before: tuple[Segment, ...]
    ) -> Iterator[Chain]:
        """Follow an element of a module's output through each container that calls the module."""
        for caller in self.callers(module):
            names = _place_inside(self.tree, module, caller).path_from(caller.module)
            entry = Entry(names, element=element)
            for call in self.all_calls(caller.module, module):
                for start in element_users(call, element):
                    yield from self._onwards(caller, start, entry, links, before)

    def _onwards(
        self, place: Place, start: fx.Node, entry: Entry, links: Links, before: tuple[Segment, ...]
    ) -> Iterator[Chain]:
        found = walk(start, links, place.module)
        segments = (*before, Segment(place, entry, links, found))
        if found.end is None:
            yield Chain(segments)
            return
        try:
            if len(segments) > _MOST_CONTAINERS:
                raise Mismatch(f"its output goes through more than {_MOST_CONTAINERS} containers")
            further = list(self._outside(place, found, segments))
        except (Mismatch, Untraceable):
            if not all_optional(found.pending):
                raise
            further = [Chain(segments)]
        yield from further

    def _outside(self, place: Place, found: Walk, segments: tuple[Segment, ...]) -> Iterator[Chain]:
        """Follow a value over a container's border, upwards or into a child."""
        assert found.end is not None
        if found.end.op != "output":
            yield from self._into(place, found, segments)
        elif place.parent is None:
            raise Mismatch("it is followed by the model's end")
        else:
            yield from self._after(place.module, found.element, found.pending, segments)

    def _into(self, place: Place, found: Walk, segments: tuple[Segment, ...]) -> Iterator[Chain]:
        assert found.end is not None
        child = called_module(found.end, place.module)
        assert child is not None
        name = type(child).__name__
        others = [
            node
            for caller in self.callers(child)
            for node in self.all_calls(caller.module, child)
            if node.graph is not found.end.graph or node is not found.end
        ]
        here = {id(variant.graph) for variant in self.variants(place.module)}
        if any(id(node.graph) not in here or node.graph is found.end.graph for node in others):
            raise Mismatch(f"it is followed by {name}, which is shared with another path")
        entry = Entry(argument=_argument(child, found.end, found.value))
        inside = _place_inside(self.tree, child, place)
        for variant in self.variants(child):
            for start in entry.nodes(variant.graph, child):
                yield from self._onwards(inside, start, entry, found.pending, segments)


def _place_inside(tree: ModuleTree, module: nn.Module, container: Place) -> Place:
    """Give a module's place below a container."""
    return next(
        place
        for place in tree.places_of(module)
        if any(above.module is container.module for above in place.ancestors())
    )


def _argument(child: nn.Module, call: fx.Node, value: fx.Node) -> str:
    """Name the argument of a child's forward that a value is given as.

    Raises:
        Mismatch: the call gives other arguments too, or the value in some other form.
    """
    bound = forward_signature(type(child)).bind(*call.args, **call.kwargs).arguments
    if len(bound) != 1 or next(iter(bound.values())) is not value:
        raise Mismatch(f"it is followed by {type(child).__name__}, which takes other arguments too")
    return next(iter(bound))


def has_forward(module: nn.Module) -> bool:
    """Say whether a container computes something, unlike a ``ModuleList``."""
    return type(module).forward is not nn.Module.forward


def trace_variants(container: nn.Module) -> tuple[Trace, ...]:
    """Trace a container as it is and, if it looks at a train flag, in training and in evaluation too."""
    first = trace(container)
    if not any(guard.name == "training" for guard in first.guards):
        return (first,)
    found = {first.guards: first}
    flags = [(module, module.training) for module in container.modules()]
    try:
        for mode in (True, False):
            for module, _ in flags:
                set_training(module, mode)
            traced = trace(container)
            found.setdefault(traced.guards, traced)
    finally:
        for module, mode in flags:
            set_training(module, mode)
    return tuple(found.values())

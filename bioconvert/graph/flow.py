"""Following a layer's output through the traced graph of the container that calls it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from torch import fx, nn

from bioconvert.core.change import Activation
from bioconvert.core.classes import qualified_name
from bioconvert.core.families import FAMILIES, family_root
from bioconvert.graph.activations import (
    ACTIVATIONS,
    FUNCTIONS,
    METHODS,
    function_activation,
    method_activation,
    module_activation,
)
from bioconvert.graph.classes import original_class
from bioconvert.graph.trace import Trace, Untraceable, set_training, trace
from bioconvert.graph.tree import ModuleTree, Place
from bioconvert.ruleset import Link

_SHOWN = 3
"""Alternatives of a link that a reason names."""


class Mismatch(Exception):  # noqa: N818 - ordinary control flow, named for what it says
    """Raised where the data flow isn't what a rule asks for; carries the reason."""


@dataclass(frozen=True, slots=True)
class Chain:
    """What follows one call of a layer.

    Args:
        nodes: the nodes that matched, in the order of the data flow.
        norm: the normalisation module among them.
        activation: the activation among them.
        dropped: the nodes of ``nodes`` that are activations.
    """

    nodes: tuple[fx.Node, ...]
    norm: nn.Module | None
    activation: Activation | None
    dropped: tuple[fx.Node, ...]


@dataclass(frozen=True, slots=True)
class Following:
    """What follows a layer, over all its calls.

    Args:
        containers: the containers that call it.
        chains: what follows each call, in every variant of each container's graph.
    """

    containers: tuple[Place, ...]
    chains: tuple[Chain, ...]


@dataclass
class Graphs:
    """The graphs of a model's containers, each traced when first asked for."""

    tree: ModuleTree
    _traces: dict[int, tuple[Trace, ...] | Untraceable] = field(default_factory=dict)

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

    def callers(self, module: nn.Module) -> tuple[Place, ...]:
        """Give the containers that call a module, one for each of its names.

        Raises:
            Untraceable: a container that may call it can't be traced, or none calls it.
        """
        found = {id(place.module): place for place in map(self._caller, self.tree.places_of(module))}
        return tuple(found.values())

    def _caller(self, place: Place) -> Place:
        for above in place.ancestors():
            if not has_forward(above.module):
                continue
            try:
                variants = self.variants(above.module)
            except Untraceable as reason:
                name = f"{type(above.module).__name__} {above.name!r}"
                raise Untraceable(f"the container {name} can't be traced: {reason}") from reason
            if any(calls(variant.graph, above.module, place.module) for variant in variants):
                return above
        raise Untraceable("no container that can be traced calls it")

    def following(self, module: nn.Module, links: Sequence[Link]) -> Following:
        """Say what follows every call of a module.

        Raises:
            Untraceable: the calls can't be seen.
            Mismatch: what follows isn't what ``links`` asks for.
        """
        containers = self.callers(module)
        chains = [
            follow(call, links, place.module)
            for place in containers
            for variant in self.variants(place.module)
            for call in calls(variant.graph, place.module, module)
        ]
        return Following(containers, tuple(chains))


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


def called_module(node: fx.Node, container: nn.Module) -> nn.Module | None:
    """Give the module that a node calls, if it calls one."""
    if node.op != "call_module":
        return None
    module: object = container
    for name in str(node.target).split("."):
        module = getattr(module, name, None)
    return module if isinstance(module, nn.Module) else None


def calls(graph: fx.Graph, container: nn.Module, module: nn.Module) -> list[fx.Node]:
    """Give the nodes that call a module."""
    return [node for node in graph.nodes if called_module(node, container) is module]


def follow(call: fx.Node, links: Sequence[Link], container: nn.Module) -> Chain:
    """Match a pattern against what follows one call.

    Modules that pass their input on (``nn.Identity``) may stand between.

    Raises:
        Mismatch: the pattern asks for something else, or the output goes to several places.
    """
    nodes: list[fx.Node] = []
    current = call
    for link in links:
        try:
            following = _only_user(current, container)
            if not any(_is(following, name, container) for name in link.alternatives):
                raise Mismatch(f"it is followed by {_describe(following, container)}, not by {_wanted(link)}")
        except Mismatch:
            if link.optional:
                continue
            raise
        nodes.append(following)
        current = following
    return _chain(nodes, container)


def _wanted(link: Link) -> str:
    shown = link.alternatives[:_SHOWN]
    return "|".join(shown) + ("|…" if len(link.alternatives) > _SHOWN else "")


def _only_user(node: fx.Node, container: nn.Module) -> fx.Node:
    users = list(node.users)
    if len(users) != 1:
        places = ", ".join(_describe(user, container) for user in users) or "nothing"
        raise Mismatch(f"its output goes to {len(users)} places ({places}), not to one")
    user = users[0]
    if isinstance(called_module(user, container), nn.Identity):
        return _only_user(user, container)
    return user


def _is(node: fx.Node, name: str, container: nn.Module) -> bool:
    module = called_module(node, container)
    if module is not None:
        if name in FAMILIES:
            return family_root(type(module), name) is not None
        cls = original_class(module)
        return name in (cls.__name__, qualified_name(cls))
    if node.op == "call_function":
        return node.target in FUNCTIONS.get(name, ())
    return node.op == "call_method" and node.target in METHODS.get(name, ())


def _names(node: fx.Node, container: nn.Module) -> Iterator[str]:
    return (name for name in ACTIVATIONS if _is(node, name, container))


def _describe(node: fx.Node, container: nn.Module) -> str:
    module = called_module(node, container)
    if module is not None:
        return original_class(module).__name__
    if node.op == "output":
        return "the container's end"
    return getattr(node.target, "__name__", str(node.target))


def _chain(nodes: Sequence[fx.Node], container: nn.Module) -> Chain:
    norm = None
    activation = None
    dropped = []
    for node in nodes:
        module = called_module(node, container)
        name = next(_names(node, container), None)
        if name is not None:
            activation = _activation(node, module, name)
            dropped.append(node)
        elif module is not None and family_root(type(module), "norm") is not None:
            norm = module
    return Chain(tuple(nodes), norm, activation, tuple(dropped))


def _activation(node: fx.Node, module: nn.Module | None, name: str) -> Activation | None:
    if module is not None:
        return module_activation(module, name)
    if callable(node.target):
        return function_activation(node.target, name, node.args, node.kwargs)
    return method_activation(node.target, name)

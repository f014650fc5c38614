"""The layer that takes what a layer's units give, found by following the data flow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import fx, nn
from torch.nn import functional as F

from bioconvert.core.errors import Refused
from bioconvert.core.families import family_root
from bioconvert.graph.activations import ACTIVATIONS
from bioconvert.graph.classes import original_class
from bioconvert.graph.flattening import averages_places, flattens
from bioconvert.graph.flow import Graphs
from bioconvert.graph.gating import gated_with
from bioconvert.graph.nodes import (
    activation_of,
    called_module,
    consumers,
    describe,
    is_norm,
    may_enter,
    norm_module,
)
from bioconvert.graph.trace import Untraceable

_POOLS = tuple(
    getattr(F, f"{kind}_pool{d}d")
    for kind in ("max", "avg", "adaptive_max", "adaptive_avg")
    for d in (1, 2, 3)
)
_KEEPING_FUNCTIONS = frozenset({*_POOLS, F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, torch.dropout})
_KEEPING_MODULES = ("torch.nn.modules.pooling", "torch.nn.modules.dropout")


@dataclass(frozen=True, slots=True)
class Receiver:
    """What stands behind a layer.

    Args:
        path: the dotted name of the layer that takes the units' outputs.
        norm: that of the normalisation in between; empty where there is none.
    """

    path: str
    norm: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """The way from a layer's units to the layer that takes what they give.

    Args:
        layer: the layer.
        receiver: the layer that takes the units' outputs.
        norm: the normalisation in between, if there is one.
        nodes: what is in between, each with the container whose graph it is in.
        crossed: the containers that the value leaves or enters.
        partners: layers by whose units those of the layer are multiplied, one by one.
    """

    layer: nn.Module
    receiver: nn.Module
    norm: nn.Module | None
    nodes: tuple[tuple[fx.Node, nn.Module], ...]
    crossed: tuple[nn.Module, ...]
    partners: tuple[nn.Module, ...] = ()


def has_units(module: nn.Module) -> bool:
    """Say whether a layer has units, one for each row of its weight: linear, or a convolution."""
    if family_root(type(module), "conv") is not None:
        return not bool(module.transposed)
    return isinstance(module, nn.Linear)


def has_units_or_columns(module: nn.Module) -> bool:
    """Say whether a layer has units, be they rows of its weight or columns, as in transformers' Conv1D."""
    return has_units(module) or family_root(type(module), "linear") is not None


def units_of(module: nn.Module) -> int:
    """Give the number of a layer's units."""
    by_row = has_units(module)
    return int(module.weight.shape[0 if by_row else 1])  # type: ignore[index]


def receiver_of(module: nn.Module, graphs: Graphs) -> Receiver:
    """Name the one layer that takes a layer's output: see :func:`route_of`.

    Raises:
        Refused: there is none, or it can't be told, with the reason.
    """
    route = route_of(module, graphs, has_units, hint=" (name it by `outgoing`)")
    norm = graphs.tree.names_of(route.norm)[0] if route.norm is not None else ""
    return Receiver(graphs.tree.names_of(route.receiver)[0], norm)


def route_of(
    module: nn.Module,
    graphs: Graphs,
    takes: Callable[[nn.Module], bool],
    *,
    hint: str = "",
    gated: bool = False,
) -> Route:
    """Find the one layer that takes a layer's output, behind activations, norms, pooling and flattening.

    Args:
        module: the layer.
        graphs: the model's graphs.
        takes: says of a module whether it is a layer that may be what is looked for.
        hint: what the user may do where it isn't found.
        gated: whether products with the units of another layer are followed, too.

    Raises:
        Refused: there is none, or it can't be told, with the reason.
    """
    search = _Search(graphs, takes, gated=gated)
    try:
        search.after(module)
        found = search.only()
        search.check_alone(found)
    except Untraceable as reason:
        raise Refused(f"{_WHERE}{hint}: {reason}") from reason
    except _NotFoundError as reason:
        raise Refused(f"{_WHERE}{hint}: {reason}") from None
    check_fit(module, found, flattened=search.flattened, takes=takes)
    norms = {id(norm): norm for norm in search.norms}
    if len(norms) > 1:
        raise Refused(f"{_WHERE}{hint}: several normalisations stand in between")
    nodes = tuple((node, container) for node, container in search.met.items())
    norm = next(iter(norms.values()), None)
    return Route(module, found, norm, nodes, tuple(search.crossed), tuple(search.partners))


def layers_behind(
    module: nn.Module, graphs: Graphs, takes: Callable[[nn.Module], bool]
) -> tuple[nn.Module, ...]:
    """Find all layers that take a module's output, behind activations, norms, pooling and flattening.

    Args:
        module: any module.
        graphs: the model's graphs.
        takes: says of a module whether it is such a layer.

    Raises:
        Refused: something else takes it, too, or it can't be told, with the reason.
    """
    search = _Search(graphs, takes)
    try:
        search.after(module)
    except (Untraceable, _NotFoundError) as reason:
        raise Refused(f"the layers behind it can't be found: {reason}") from reason
    return tuple(search.receivers)


_WHERE = "the layer that takes its units' output can't be found"


class _NotFoundError(Exception):
    """The search has come to an end, for a reason."""


def check_fit(
    module: nn.Module,
    receiver: nn.Module,
    *,
    flattened: bool = True,
    takes: Callable[[nn.Module], bool] = has_units,
) -> None:
    """Check that a layer's inputs are the units of another.

    Raises:
        Refused: the numbers don't fit.
    """
    if not takes(receiver) or receiver._parameters.get("weight") is None:
        raise Refused(
            f"{type(receiver).__name__} can't take its units' output: it must be a Linear or a Conv"
        )
    units, given = units_of(module), _inputs(receiver)
    from_conv, to_conv = (family_root(type(each), "conv") is not None for each in (module, receiver))
    fits_flat = flattened and given % units == 0
    if not (fits_flat if from_conv and not to_conv else given == units):
        raise Refused(f"its {units} units aren't the inputs of the {type(receiver).__name__} behind it")


def _inputs(receiver: nn.Module) -> int:
    """Give the number of inputs that a layer takes of each sample, or place."""
    if family_root(type(receiver), "conv") is not None:
        return int(receiver.in_channels)  # type: ignore[arg-type]
    if isinstance(receiver, nn.Linear):
        return receiver.in_features
    return int(receiver.weight.shape[0])  # type: ignore[index]


@dataclass
class _Search:
    """What was found behind a layer.

    Args:
        graphs: the model's graphs.
        takes: says of a module whether it is a layer that may be what is looked for.
        receivers: the layers that take the value, each with the nodes that call it.
        norms: the normalisations on the way.
        flattened: whether each sample becomes a row on the way.
        met: the nodes that were followed, each with the container whose graph it is in.
        crossed: the containers that the value left or entered.
        gated: whether products with the units of another layer are followed, too.
        partners: these layers.
    """

    graphs: Graphs
    takes: Callable[[nn.Module], bool]
    receivers: dict[nn.Module, list[fx.Node]] = field(default_factory=dict)
    norms: list[nn.Module] = field(default_factory=list)
    flattened: bool = False
    met: dict[fx.Node, nn.Module] = field(default_factory=dict)
    crossed: list[nn.Module] = field(default_factory=list)
    gated: bool = False
    partners: dict[nn.Module, None] = field(default_factory=dict)

    def after(self, module: nn.Module) -> None:
        """Follow a module's output in every container that calls it."""
        for caller in self.graphs.callers(module):
            for call in self.graphs.all_calls(caller.module, module):
                self._follow(call, caller.module)

    def only(self) -> nn.Module:
        """Give the one layer that was found."""
        if len(self.receivers) != 1:
            names = ", ".join(type(each).__name__ for each in self.receivers) or "nothing"
            raise _NotFoundError(f"{len(self.receivers)} layers take it ({names})")
        return next(iter(self.receivers))

    def check_alone(self, receiver: nn.Module) -> None:
        """Refuse a layer that takes other values too."""
        calls = (
            call
            for caller in self.graphs.callers(receiver)
            for call in self.graphs.all_calls(caller.module, receiver)
        )
        if any(call not in self.receivers[receiver] for call in calls):
            raise _NotFoundError(f"{type(receiver).__name__} behind it takes other values too")

    def _follow(self, value: fx.Node, container: nn.Module) -> None:
        if value in self.met:
            return
        self.met[value] = container
        users = consumers(value)
        if not users:
            raise _NotFoundError("nothing uses its output")
        for user in users:
            self._pass_on(value, user, container)

    def _pass_on(self, value: fx.Node, user: fx.Node, container: nn.Module) -> None:
        module = called_module(user, container)
        if user.op == "output":
            self._leave(value, user, container)
        elif module is not None and self.takes(module):
            self.receivers.setdefault(module, []).append(user)
        elif self._keeps_units(user, container) or (self.gated and self._meets(value, user, container)):
            self._follow(user, container)
        elif module is not None and may_enter(module):
            self._enter(user, module)
        else:
            raise _NotFoundError(f"it is followed by {describe(user, container)}")

    def _meets(self, value: fx.Node, user: fx.Node, container: nn.Module) -> bool:
        """Say whether each unit is multiplied by one of another layer."""
        found = gated_with(value, user, container, self.takes)
        if found is None:
            return False
        self.partners[found[0]] = None
        self.met.update(dict.fromkeys(found[1], container))
        return True

    def _leave(self, value: fx.Node, user: fx.Node, container: nn.Module) -> None:
        if container is self.graphs.tree.model:
            raise _NotFoundError("it is followed by the model's end")
        if user.args[0] is not value:
            raise _NotFoundError("its container gives it back among other things")
        self.crossed.append(container)
        self.after(container)

    def _enter(self, user: fx.Node, module: nn.Module) -> None:
        if len(user.args) + len(user.kwargs) != 1:
            raise _NotFoundError(f"it is followed by {type(module).__name__}, which takes other values too")
        self.crossed.append(module)
        for variant in self.graphs.variants(module):
            for node in variant.graph.nodes:
                if node.op == "placeholder":
                    self._follow(node, module)

    def _keeps_units(self, node: fx.Node, container: nn.Module) -> bool:
        """Say whether each unit's values stay its own and in their place."""
        if is_norm(node, container):
            norm = norm_module(node, container)
            self.norms += [norm] if norm is not None else []
            return True
        if activation_of(node, container) is not None:
            return True
        module = called_module(node, container)
        if module is not None:
            return self._module_keeps_units(module)
        if flattens(node) or averages_places(node):
            self.flattened = True
            return True
        return node.target in _KEEPING_FUNCTIONS

    def _module_keeps_units(self, module: nn.Module) -> bool:
        cls = original_class(module)
        if isinstance(module, nn.Flatten):
            self.flattened = True
            return module.start_dim == 1 and module.end_dim == -1
        passes = isinstance(module, nn.Identity) or cls.__module__ in _KEEPING_MODULES
        return passes or cls.__name__ in ACTIVATIONS


def resolve(model: nn.Module, path: str) -> nn.Module:
    """Give a module by the name that it has in the model without wrappers around parts of it.

    Raises:
        Refused: there is none of that name.
    """
    for name, module in _named(model):
        if name == path:
            return module
    raise Refused(f"the model has no layer {path!r}, which `outgoing` or `norm` names")


def _named(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    wrapped = ("_orig_mod", "_checkpoint_wrapped_module")
    for name, module in model.named_modules(remove_duplicate=False):
        yield ".".join(each for each in name.split(".") if each not in wrapped), module

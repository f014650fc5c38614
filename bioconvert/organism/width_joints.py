"""Where a node can get more units: its layers, each with the layer that takes what the units give."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import fx, nn

from bioconvert.core.errors import OptionError, Refused
from bioconvert.core.families import family_root
from bioconvert.graph.classes import STEPS, original_class
from bioconvert.graph.flow import Graphs
from bioconvert.graph.gating import are_alike
from bioconvert.graph.nodes import activation_of, called_module, describe, is_norm
from bioconvert.graph.receivers import Route, has_units_or_columns, route_of, units_of
from bioconvert.graph.trace import Untraceable
from bioconvert.graph.tree import ModuleTree
from bioconvert.organism.node import Node
from bioconvert.organism.record import GROWN
from bioconvert.organism.seats import Seat
from bioconvert.organism.width_axes import unit_axis

_log = logging.getLogger("bioconvert")
_PARAMETERS = frozenset({"weight", "bias"})
_STATISTICS = frozenset({"running_mean", "running_var", "num_batches_tracked"})
_PLAIN = (torch.Tensor, nn.Parameter)
_SHOWN = 4
Holders = dict[int, list[str]]
"""The places of tensors in a model, by the ``id`` of each."""


@dataclass(frozen=True, slots=True, eq=False)
class Joint:
    """A layer that can get more units, and with it the layers by whose units its own are multiplied.

    Args:
        path: its dotted name.
        route: the way from its units to the layer that takes what they give.
        units: the number of units that it has.
        block: the number of new units comes in whole multiples of this, since a normalisation takes so many
            together.
        whole: whether a normalisation takes all units together, so that new ones must be copies of all.
    """

    path: str
    route: Route
    units: int
    block: int = 1
    whole: bool = False

    @property
    def layer(self) -> nn.Module:
        """The layer."""
        return self.route.layer

    @property
    def layers(self) -> tuple[nn.Module, ...]:
        """The layer, and those that get as many units with it."""
        return (self.route.layer, *self.route.partners)

    @property
    def receiver(self) -> nn.Module:
        """The layer that takes what the units give."""
        return self.route.receiver

    @property
    def norm(self) -> nn.Module | None:
        """The normalisation in between, if there is one."""
        return self.route.norm

    @property
    def axes(self) -> list[tuple[nn.Parameter, int]]:
        """The parameters that grow, each with the dimension that does."""
        found = [(self.receiver, "weight", 1 - unit_axis(self.receiver))]
        for layer in self.layers:
            found += [(layer, "weight", unit_axis(layer)), (layer, "bias", 0)]
        if self.norm is not None:
            found += [(self.norm, name, 0) for name in self.norm._parameters]
        held = [(module._parameters.get(name), axis) for module, name, axis in found]
        return [(parameter, axis) for parameter, axis in held if parameter is not None]


def joints_of(seat: Seat, model: nn.Module) -> list[Joint]:
    """Find the layers of a node whose units can get more beside them, in the order of its modules.

    These are its hidden layers: what takes their units lies in the node, too. A node without any, such as one
    that is a layer itself, may have layers that what lies behind the node takes.

    Raises:
        OptionError: there is none; the reason is told for each layer.
    """
    graphs, holders = Graphs(ModuleTree(model)), _holders(model)
    inside = {id(module) for module in seat.node.modules()}
    found, refused = [], {}
    for path, layer in _layers(seat):
        try:
            found.append(_joint(path, layer, graphs, holders))
        except Refused as reason:
            refused[path] = reason.reason
    joints = _once([joint for joint in found if id(joint.receiver) in inside] or found)
    if not joints:
        raise OptionError(f"{seat.node.dynamic_id!r} can't get more units: {_listed(refused)}")
    for path, why in refused.items():
        _log.info("%s gets no more units: %s", path, why)
    return joints


def _once(joints: list[Joint]) -> list[Joint]:
    """Leave out what grows with a layer that comes before."""
    left: list[Joint] = []
    for joint in joints:
        if not any(joint.layer in other.route.partners for other in left):
            left.append(joint)
    return left


def _layers(seat: Seat) -> Iterator[tuple[str, nn.Module]]:
    """Give the layers of a node that are in no other node."""

    def walk(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
        if has_units_or_columns(module) or family_root(type(module), "conv") is not None:
            yield path, module
        for key, child in module._modules.items():
            if child is not None and key != GROWN and not isinstance(child, Node):
                yield from walk(child, f"{path}.{key}" if path else key)

    return walk(seat.node, seat.path)


def _listed(refused: dict[str, str]) -> str:
    if not refused:
        return "it has no Linear or Conv layer of its own"
    shown = [f"{path!r}: {why}" for path, why in list(refused.items())[:_SHOWN]]
    return "; ".join([*shown, *([f"and {len(refused) - _SHOWN} more"] if len(refused) > _SHOWN else [])])


def _joint(path: str, layer: nn.Module, graphs: Graphs, holders: Holders) -> Joint:
    """Find what stands behind a layer.

    Raises:
        Refused: its units can't get more beside them, with the reason.
    """
    _check_layer(layer, graphs, holders)
    route = route_of(layer, graphs, _is_layer, gated=True)
    _check_layer(route.receiver, graphs, holders)
    _check_partners(route, graphs, holders)
    for container in route.crossed:
        if GROWN in container._modules:
            raise Refused(f"branches grow beside the {type(container).__name__} that its units pass through")
    for node, container in route.nodes:
        if called_module(node, container) not in (layer, *route.partners):
            _check_between(node, container)
    units = units_of(layer)
    if route.norm is None:
        return Joint(path, route, units)
    _check_norm(route.norm, route, graphs, holders)
    return _normalised(path, route, route.norm, units)


def _check_partners(route: Route, graphs: Graphs, holders: Holders) -> None:
    """Refuse layers by whose units others are multiplied where these have another use, or none to see."""
    for partner in route.partners:
        name = _name(partner, graphs)
        _check_layer(partner, graphs, holders)
        back = route_of(partner, graphs, _is_layer, gated=True)
        if back.receiver is not route.receiver or back.partners != (route.layer,):
            raise Refused(f"its units are multiplied by those of {name!r}, which has other uses, too")
        if not are_alike(route.layer, partner) or units_of(partner) != units_of(route.layer):
            raise Refused(f"what its units are multiplied by, {name!r}, has other units")


def _is_layer(module: nn.Module) -> bool:
    """Say whether a module ends the search: a grouped or transposed convolution does, to be refused."""
    return has_units_or_columns(module) or family_root(type(module), "conv") is not None


def _check_layer(layer: nn.Module, graphs: Graphs, holders: Holders) -> None:
    cls = original_class(layer)
    root = family_root(cls, "conv") or family_root(cls, "linear")
    if root is None or cls is not root:
        raise Refused(f"{cls.__name__} is no plain Linear or Conv layer")
    if getattr(layer, "transposed", False):
        raise Refused(f"{cls.__name__} works the other way round")
    groups = int(getattr(layer, "groups", 1))
    if groups != 1:
        depthwise = groups == layer.in_channels
        raise Refused(
            f"the {cls.__name__} {_name(layer, graphs)!r} has {groups} groups"
            f"{', one for each channel' if depthwise else ''}, which are bound to their inputs"
        )
    _check_own(layer, _PARAMETERS, graphs, holders)


def _check_own(module: nn.Module, known: frozenset[str], graphs: Graphs, holders: Holders) -> None:
    """Refuse a module that anything else depends on, by its tensors or its class."""
    name, kind = _name(module, graphs), original_class(module).__name__
    changed = [step for step in vars(module).get(STEPS, ()) if step.action != "wrap"]
    if changed:
        done = ", ".join(f"{step.action} {step.name}" if step.name else step.action for step in changed)
        raise Refused(f"the {kind} {name!r} was changed ({done}), and what that added fits the old size only")
    if GROWN in module._modules:
        raise Refused(f"branches grow beside the {kind} {name!r}")
    if "forward" in vars(module):
        raise Refused(f"the forward of the {kind} {name!r} is set on the instance")
    own = {**module._parameters, **module._buffers}
    extra = sorted(own.keys() - known)
    if extra:
        raise Refused(f"the {kind} {name!r} holds {', '.join(extra)} beside its weight and bias")
    if "weight" in known and "weight" not in own:
        raise Refused(f"the weight of the {kind} {name!r} is computed")
    for key, tensor in own.items():
        if tensor is not None and type(tensor) not in _PLAIN:
            raise Refused(f"{key} of the {kind} {name!r} is a {type(tensor).__name__}")
        names = holders.get(id(tensor), [])
        if len(names) > 1:
            raise Refused(f"{' and '.join(map(repr, names))} are one parameter")


def _holders(model: nn.Module) -> Holders:
    """Name the places of each tensor of a model's modules, by its ``id``."""
    found: Holders = {}
    for path, module in model.named_modules():
        for table in (module._parameters, module._buffers):
            for key, value in table.items():
                if value is not None:
                    found.setdefault(id(value), []).append(f"{path}.{key}")
    return found


def _name(module: nn.Module, graphs: Graphs) -> str:
    return graphs.tree.names_of(module)[0]


def _check_between(node: fx.Node, container: nn.Module) -> None:
    """Refuse what lies between layer and receiver where it knows the number of units."""
    module, what = called_module(node, container), describe(node, container)
    if module is not None:
        if not is_norm(node, container) and any(p.numel() > 1 for p in module.parameters(recurse=False)):
            raise Refused(f"{what} behind it has parameters for each unit")
        return
    if is_norm(node, container) or (activation_of(node, container) or ("",))[0] == "PReLU":
        raise Refused(f"{what} behind it is called as a function, with parameters held elsewhere")
    sizes = [each for argument in node.args[1:] for each in _flat(argument)]
    if node.op == "call_method" and node.target in ("view", "reshape") and _is_fixed(sizes):
        raise Refused(f"{node.target}({', '.join(map(str, sizes))}) behind it has the number of units in it")


def _flat(argument: object) -> list[object]:
    return list(argument) if isinstance(argument, (tuple, list)) else [argument]


def _is_fixed(sizes: list[object]) -> bool:
    return len(sizes) > 1 and isinstance(sizes[-1], int) and sizes[-1] != -1


def _check_norm(norm: nn.Module, route: Route, graphs: Graphs, holders: Holders) -> None:
    _check_own(norm, (_PARAMETERS | _STATISTICS) & {*norm._parameters, *norm._buffers}, graphs, holders)
    met = {node for node, _ in route.nodes}
    try:
        calls = [
            call
            for caller in graphs.callers(norm)
            for call in graphs.all_calls(caller.module, norm)
            if call not in met
        ]
    except Untraceable as reason:
        raise Refused(f"what calls the {type(norm).__name__} behind it can't be seen: {reason}") from reason
    if calls:
        raise Refused(f"the {type(norm).__name__} {_name(norm, graphs)!r} takes other values too")


def _normalised(path: str, route: Route, norm: nn.Module, units: int) -> Joint:
    """Say in which numbers new units must come, for a normalisation to treat the old ones as before."""
    if isinstance(norm, nn.GroupNorm) and norm.num_channels == units:
        return Joint(path, route, units, block=units // norm.num_groups)
    if isinstance(norm, (nn.LayerNorm, nn.RMSNorm)) and tuple(norm.normalized_shape) == (units,):
        return Joint(path, route, units, block=units, whole=True)
    features = getattr(norm, "num_features", None)
    if isinstance(features, int) and features % units == 0:
        return Joint(path, route, units)
    raise Refused(f"{type(norm).__name__} behind it normalises otherwise than by unit")

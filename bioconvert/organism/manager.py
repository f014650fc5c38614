"""The nodes of a network by name, how they are wired, and what happened to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from bioconvert.core.errors import OptionError
from bioconvert.organism import topology
from bioconvert.organism.evolvable import BaseEvolvableModule
from bioconvert.organism.node import Node
from bioconvert.organism.record import Record
from bioconvert.organism.seats import Seats, own_parameters, seats_in

if TYPE_CHECKING:
    from bioconvert.organism.network import DynamicNetwork


class OrganismManager:
    """A view of a :class:`~bioconvert.organism.network.DynamicNetwork`, which holds everything itself.

    Example:
        >>> from bioconvert.organism import DynamicNetwork
        >>> manager = OrganismManager()
        >>> network = DynamicNetwork(manager)
        >>> stem = network.add_layer(nn.Linear(4, 4), name="stem")
        >>> manager.edges, manager.inputs, manager.outputs
        ({'stem': ()}, ('stem',), ('stem',))
    """

    def __init__(self) -> None:
        self._network: DynamicNetwork | None = None

    @property
    def network(self) -> DynamicNetwork:
        """The network.

        Raises:
            OptionError: there is none yet.
        """
        if self._network is None:
            raise OptionError("the manager has no network yet: make a DynamicNetwork(manager)")
        return self._network

    def attach(self, network: DynamicNetwork) -> None:
        """Serve a network.

        Raises:
            OptionError: it serves another one.
        """
        if self._network is not None and self._network is not network:
            raise OptionError("the manager has a network already: give each network a manager of its own")
        self._network = network

    @property
    def registry(self) -> Mapping[str, Node]:
        """The nodes by ``id``, branches among them."""
        return {name: seat.node for name, seat in self._seats.items()}

    @property
    def edges(self) -> dict[str, tuple[str, ...]]:
        """What each node feeds; a branch feeds what its host does."""
        fed = topology.children(self.network.parents)
        return {name: fed.get(seat.host.dynamic_id, ()) for name, seat in self._seats.items()}

    @property
    def inputs(self) -> tuple[str, ...]:
        """The members that are given the network's input."""
        return topology.inputs(self.network.parents)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The members whose outputs are the network's."""
        return topology.outputs(self.network.parents)

    @property
    def history(self) -> tuple[Record, ...]:
        """What happened: each with its ``step``, its ``event`` and the ``node``."""
        return tuple(self.network.record["history"])

    @property
    def step_counter(self) -> int:
        """The number of steps that the bound optimizer has done."""
        step: int = self.network.record["step"]
        return step

    def register(self, module: nn.Module, parents: Iterable[str] | None = None) -> str:
        """Add a node, as :meth:`~bioconvert.organism.network.DynamicNetwork.add_layer` does."""
        return self.network.add_layer(module, parents)

    register_module = register

    def get_module(self, tag_or_id: str) -> Node | None:
        """Give a node by its ``id`` or its tag, of several with that tag the first; or ``None``."""
        nodes = self.registry
        return nodes.get(tag_or_id) or next((n for n in nodes.values() if n.tag == tag_or_id), None)

    def list_organs(self) -> list[Record]:
        """Say of each node what it is: ``uuid``, ``tag``, ``type``, ``params`` and ``frozen``."""
        return [
            {
                "uuid": name,
                "tag": seat.node.tag,
                "type": kind_of(seat.node),
                "params": sum(p.numel() for p in own_parameters(seat).values()),
                "frozen": seat.node.node_record["frozen"] is not None,
            }
            for name, seat in self._seats.items()
        ]

    def summarize_evolution(self) -> str:
        """Tell in some lines what happened so far."""
        events = Counter(event["event"] for event in self.history)
        grown = sum(event["event"] == "birth" and "of" in event for event in self.history)
        rows: list[tuple[str, Any]] = [
            ("step", self.step_counter),
            ("nodes", len(self.registry)),
            ("members added", events["birth"] - grown),
            ("born by growth", grown),
            ("died", events["death"]),
            ("parameters", sum(p.numel() for p in self.network.parameters())),
        ]
        return "\n".join(f"{name}: {value:,}" for name, value in rows)

    @property
    def _seats(self) -> Seats:
        return seats_in(self.network)


def kind_of(node: Node) -> str:
    """Name the class of a node, or of what it holds where it is nothing more."""
    made_of = node.child_module if type(node) is BaseEvolvableModule else node
    return type(made_of).__name__

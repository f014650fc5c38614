"""The nodes of a model with the places where they sit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from bioconvert.core.errors import OptionError
from bioconvert.core.suggest import hint
from bioconvert.organism.branch import Branch
from bioconvert.organism.node import Node, branches_of
from bioconvert.organism.record import GROWN


@dataclass(frozen=True, slots=True, eq=False)
class Seat:
    """One node and where it sits.

    Args:
        node: the node: a block of the host model, or what is inside a branch.
        path: the node's dotted name in the model.
        host: the block that the node is a branch of, or the node itself.
        key: its name among the host's branches; empty for the block itself.
    """

    node: Node
    path: str
    host: Node
    key: str = ""

    @property
    def branch(self) -> Branch | None:
        """The branch that the node is inside of; ``None`` for a block of the host model."""
        return branches_of(self.host)[self.key] if self.key else None

    @property
    def holder(self) -> nn.Module:
        """What holds all that came with the node: its branch, or itself."""
        return self.branch or self.node


Seats = Mapping[str, Seat]


def seats_in(model: nn.Module) -> Seats:
    """Find the nodes of a model by their ``id``, in the order of its modules.

    Raises:
        OptionError: two of them have the same, as when two converted models became one.
    """
    found: dict[str, Seat] = {}
    hosts: dict[int, tuple[Node, str]] = {}
    for path, module in model.named_modules():
        if isinstance(module, Node):
            host, key = hosts.get(id(module), (module, ""))
            if module.dynamic_id in found:
                raise OptionError(
                    f"two nodes are called {module.dynamic_id!r}, at {found[module.dynamic_id].path!r} and "
                    f"{path!r}: set node_record['id'] of one of them to its path"
                )
            found[module.dynamic_id] = Seat(module, path, host, key)
            for each, branch in branches_of(module).items():
                hosts[id(branch.block)] = (module, each)
    return found


def seat_of(seats: Seats, wanted: Node | str) -> Seat:
    """Find a node by itself, its ``id`` or its tag; of several with that tag, the first.

    Raises:
        OptionError: there is none; the text says what is known and what may have been meant.
    """
    if isinstance(wanted, Node):
        for seat in seats.values():
            if seat.node is wanted:
                return seat
        raise OptionError(f"the node {wanted.dynamic_id!r} is no part of this model")
    if not isinstance(wanted, str):
        raise OptionError(
            f"a node must be given itself, by its id or by its tag, not as {type(wanted).__name__}"
        )
    if wanted in seats:
        return seats[wanted]
    for seat in seats.values():
        if seat.node.tag == wanted:
            return seat
    raise OptionError(f"there is no node {wanted!r}. {hint(wanted, known(seats))}")


def known(seats: Seats) -> set[str]:
    """Give the ids and the tags."""
    return {*seats, *(seat.node.tag for seat in seats.values())}


def own_parameters(seat: Seat) -> dict[str, nn.Parameter]:
    """Give the parameters that belong to a node and to no node inside or beside it, by their names in it."""
    found: dict[str, nn.Parameter] = {}

    def walk(module: nn.Module, prefix: str) -> None:
        found.update({prefix + name: p for name, p in module._parameters.items() if p is not None})
        for key, child in module._modules.items():
            if (
                child is not None
                and not isinstance(child, Node)
                and not (module is seat.node and key == GROWN)
            ):
                walk(child, f"{prefix}{key}.")

    walk(seat.node, "")
    return found

"""All nodes of a model together: growing, freezing, routing, pruning, and what happened so far."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import partial
from typing import Any, Literal

from torch import nn

from bioconvert.core.errors import OptionError
from bioconvert.core.suggest import hint
from bioconvert.core.wrappers import wrapper_of
from bioconvert.graph.grown import ORGANISM
from bioconvert.organism.binding import Binding
from bioconvert.organism.clone import clone_of
from bioconvert.organism.freezing import freeze_others, thaw
from bioconvert.organism.node import Node, add_branch, remove_branch
from bioconvert.organism.optimizer import second_moment
from bioconvert.organism.record import Record, clone_record, organism_record
from bioconvert.organism.seats import Seat, Seats, known, own_parameters, seat_of, seats_in

_log = logging.getLogger("bioconvert")
STABILIZATION_STEPS = 100


class Organism:
    """The nodes of a model, wherever they sit, and what becomes of them.

    Everything that is known of them lies in the model and is saved with it: each node's record on the node,
    and what concerns all of them, :attr:`record`, on the model. So a second ``Organism`` of the same model,
    or of a loaded one, goes on where the first was.

    Args:
        model: a model that rules with ``wrap:`` converted.
        seed: decides every random number; 0, or for a model that had an organism before, what it was.
        stabilization_steps: number of optimizer steps within which the rate of new parameters comes down.

    Raises:
        OptionError: the model has no nodes, or stands in a wrapper that has taken note of its parameters.

    Example:
        >>> import bioconvert as bc
        >>> rules = {"version": 1, "rules": [{"match": {"path": "0"}, "wrap": {"tag": "general"}}]}
        >>> model = bc.convert(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), rules)
        >>> organism = Organism(model)
        >>> organism.grow("general", tag="expert").dynamic_id
        '0+1'
    """

    def __init__(
        self, model: nn.Module, *, seed: int | None = None, stabilization_steps: int = STABILIZATION_STEPS
    ):
        self.model = _inside(model)
        if not self.seats:
            raise OptionError("the model has no nodes: convert it by a rule with `wrap:`")
        self.stabilization_steps = stabilization_steps
        self.record: Record = vars(self.model).setdefault(ORGANISM, organism_record(0))
        if seed is not None:
            self.record["seed"] = seed
        self._bindings: list[Binding] = []

    @property
    def seats(self) -> Seats:
        """The nodes with their places, by ``id``."""
        return seats_in(self.model)

    @property
    def step(self) -> int:
        """The number of steps that the bound optimizer has done."""
        step: int = self.record["step"]
        return step

    @property
    def history(self) -> tuple[Record, ...]:
        """What happened: each with its ``step``, its ``event`` and the ``node``."""
        return tuple(self.record["history"])

    def nodes(self) -> list[Node]:
        """Give every node, in the order of the model's modules; branches follow their block."""
        return [seat.node for seat in self.seats.values()]

    def get(self, wanted: Node | str) -> Node:
        """Give a node by its ``id`` or its tag; of several with that tag, the first.

        Raises:
            OptionError: there is none; the text says what is known.
        """
        return seat_of(self.seats, wanted).node

    def bind(self, optimizer: Any) -> Organism:
        """Let an optimizer's steps count, and its rates follow: new parameters start at 10 times the rate.

        An optimizer that was made from all parameters of a model that had grown gets the groups that growth
        made, in the same order, so that a saved ``state_dict`` of the other one fits.

        Args:
            optimizer: any optimizer with groups; several may be bound, and the first one counts.

        Returns:
            This object; the optimizer's hooks keep it alive.
        """
        self._binding(optimizer)
        return self

    def unbind(self) -> None:
        """Let all optimizers step alone again."""
        for binding in self._bindings:
            binding.remove()
        self._bindings.clear()

    def grow(
        self,
        node: Node | str,
        kind: Literal["branch"] = "branch",
        *,
        tag: str | None = None,
        by: Literal["clone"] = "clone",
        optimizer: Any = None,
    ) -> Node:
        """Let a branch grow beside a node: a clone of it, whose gate is closed, so that no output changes.

        Args:
            node: a node, its ``id`` or its tag; where that is a branch, the new one grows beside it.
            kind: what grows.
            tag: what the new node is for; ``"expert_<number of births>"`` by default.
            by: how it arises.
            optimizer: gets a group, or groups, of the new parameters, and is bound from then on; by default,
                the bound one that trains the node.

        Returns:
            The new node.

        Raises:
            OptionError: there is no such node, or no such way to grow.
        """
        if kind != "branch" or by != "clone":
            raise OptionError(f"a node grows a 'branch' by 'clone', not a {kind!r} by {by!r}")
        seat = seat_of(self.seats, node)
        binding = self._binding_for(seat) if optimizer is None else self._binding(optimizer)
        births = self.record["births"] + 1
        branch = self._born(seat, tag or f"expert_{births}", binding)
        self.record["births"] = births
        born: Node = branch.node
        if binding is not None:
            binding.welcome(branch, seat, self.stabilization_steps)
        self.note("birth", born, tag=born.tag, of=seat.node.dynamic_id, kind=kind, by=by)
        return born

    def inject(self, node: Node | str, tag: str, *, optimizer: Any = None) -> Node:
        """Let a branch for something new grow beside a node: :meth:`grow` by another name."""
        return self.grow(node, tag=tag, optimizer=optimizer)

    def prune(self, node: Node | str, *, optimizer: Any = None) -> None:
        """Take a branch away for good: from the model, and from the optimizers that are bound.

        Args:
            node: a branch, its ``id`` or its tag.
            optimizer: forgets its parameters, too.

        Raises:
            OptionError: it is no branch, or immortal.
        """
        seat = seat_of(self.seats, node)
        if not seat.key:
            raise OptionError(
                f"{seat.node.dynamic_id!r} is a block of the model itself: only branches are pruned"
            )
        if seat.node.node_record["immortal"]:
            raise OptionError(f"{seat.node.dynamic_id!r} is immortal")
        if optimizer is not None:
            self._binding(optimizer)
        inside = [each.node.dynamic_id for each in seats_in(seat.holder).values()]
        branch = remove_branch(seat.host, seat.key)
        seat.host.node_record["branches"].remove(seat.key)
        for record in self.record["groups"]:
            if record["of"] in inside:
                record["parameters"] = []
        for binding in self._bindings:
            binding.forget(branch)
        self.note("death", seat.node, tag=seat.node.tag)

    def freeze_all_except(self, *tags: str) -> None:
        """Let only the nodes of some tags or ids learn; what is in no node is left as it is.

        Raises:
            OptionError: there is no node of a tag.
        """
        seats = self.seats
        freeze_others(seats, {name for tag in tags for name in _named(seats, tag)})
        self.note("freeze", None, learning=list(tags))

    def unfreeze(self) -> None:
        """Let every node learn what it did before anything was frozen."""
        for seat in self.seats.values():
            thaw(seat)
        self.note("unfreeze", None)

    def route(self, *tags: str) -> None:
        """Let only the branches of some tags or ids take part; without any, all do.

        Raises:
            OptionError: there is no node of a tag.
        """
        seats = self.seats
        chosen = {name for tag in tags for name in _named(seats, tag)} if tags else set(seats)
        for name, seat in seats.items():
            if seat.key:
                seat.node.node_record["active"] = name in chosen

    def status(self) -> list[Record]:
        """Say of each node what it is and how it does."""
        return [self._status(seat) for seat in self.seats.values()]

    def note(self, event: str, node: Node | None, **told: Any) -> None:
        """Write an event into the history."""
        named = {} if node is None else {"node": node.dynamic_id}
        self.record["history"].append({"step": self.step, "event": event, **named, **told})
        _log.info("step %d: %s %s", self.step, event, named.get("node", ""))

    def _born(self, seat: Seat, tag: str, binding: Binding | None) -> Seat:
        host = seat.host
        key = str(host.node_record["births"] + 1)
        record = clone_record(seat.node.node_record, key, host.dynamic_id, tag, self.step)
        moment = partial(second_moment, None if binding is None else binding.optimizer)
        branch = clone_of(seat.node, record, self.record["seed"], moment)
        add_branch(host, key, branch)
        host.node_record["births"] += 1
        host.node_record["branches"].append(key)
        return self.seats[record["id"]]

    def _binding_for(self, seat: Seat) -> Binding | None:
        own = {id(p) for p in own_parameters(seat).values()}
        return next((binding for binding in self._bindings if binding.holds(own)), None)

    def _binding(self, optimizer: Any) -> Binding:
        for binding in self._bindings:
            if binding.serves(optimizer):
                return binding
        binding = Binding(self, optimizer, counts=not self._bindings)
        self._bindings.append(binding)
        return binding

    def _status(self, seat: Seat) -> Record:
        record, branch = seat.node.node_record, seat.branch
        return {
            "id": record["id"],
            "tag": record["tag"],
            "path": seat.path,
            "of": record["of"],
            "age": self.step - record["born"],
            "parameters": sum(p.numel() for p in own_parameters(seat).values()),
            "gate": None if branch is None else branch.gate.item(),
            "active": record["active"],
            "frozen": record["frozen"] is not None,
            "dying": record["dying"],
            "immortal": record["immortal"],
        }


def _named(seats: Seats, wanted: str) -> Iterable[str]:
    """Give the ids of all nodes of a tag, or the one of that ``id``."""
    found = [name for name, seat in seats.items() if wanted in (name, seat.node.tag)]
    if not found:
        raise OptionError(f"there is no node {wanted!r}. {hint(wanted, known(seats))}")
    return found


def _inside(model: nn.Module) -> nn.Module:
    """Give the model in its wrappers."""
    if not isinstance(model, nn.Module):
        raise OptionError(f"a model must be an instance of torch.nn.Module, not {type(model).__name__}")
    wrapper = wrapper_of(type(model))
    if wrapper is None:
        return model
    if wrapper.counted:
        raise OptionError(
            f"the model is {wrapper.said}, which has taken note of its parameters and would miss new ones: "
            "let the model itself grow, and wrap it afterwards"
        )
    return _inside(getattr(model, wrapper.inner))

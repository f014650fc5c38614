"""All nodes of a model together: growing, freezing, routing, pruning, and what happened so far."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from functools import partial
from typing import Any, Literal

import torch
from torch import nn

from bioconvert.core.errors import OptionError
from bioconvert.core.suggest import hint
from bioconvert.core.wrappers import innermost
from bioconvert.graph.grown import ORGANISM
from bioconvert.organism.binding import Binding, bindings_of, welcome
from bioconvert.organism.clone import clone_of
from bioconvert.organism.collective import refuse_sharded
from bioconvert.organism.freezing import freeze_others, thaw
from bioconvert.organism.node import Node, add_branch
from bioconvert.organism.optimizer import second_moment
from bioconvert.organism.pruning_organism import Pruning
from bioconvert.organism.record import Record, clone_record, organism_record
from bioconvert.organism.router import ROUTER
from bioconvert.organism.routing import balance_loss, began, let_router_choose
from bioconvert.organism.seats import Seat, Seats, known, own_parameters, seat_of, seats_in
from bioconvert.organism.status import status_row, status_text
from bioconvert.organism.timeline import count_parameters, write_timeline
from bioconvert.organism.width import grow_width
from bioconvert.organism.width_births import Loss

_log = logging.getLogger("bioconvert")
STABILIZATION_STEPS = 100


class Organism(Pruning):
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
        self._bindings = bindings_of(self.model)
        if ORGANISM not in vars(self.model):
            self.unbind()  # what an organism bound before all of it was reverted
        self.record: Record = vars(self.model).setdefault(ORGANISM, organism_record(0))
        if seed is not None:
            self.record["seed"] = seed
        self.record.setdefault("parameters", count_parameters(self.model))

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
            optimizer: any optimizer with groups; several may be bound, and the first one counts. After
                loading, bind as many in the same order, so that each gets the groups of what died, too.

        Returns:
            This object; the optimizer's hooks keep it alive.
        """
        self._binding(optimizer)
        return self

    def is_trained(self, node: Node | str) -> bool:
        """Say whether an optimizer that is bound holds a parameter of a node."""
        return self._binding_for(seat_of(self.seats, node)) is not None

    def set_rates(self, optimizer: Any) -> None:
        """Set an optimizer's rates of new parameters for the step that comes; it is bound from then on."""
        self._binding(optimizer).set_rates()

    def unbind(self) -> None:
        """Let all optimizers step alone again."""
        for binding in self._bindings:
            binding.remove()
        self._bindings.clear()

    def grow(
        self,
        node: Node | str,
        kind: Literal["branch", "width"] = "branch",
        *,
        tag: str | None = None,
        by: Literal["clone", "zero", "paired", "net2wider", "gradmax"] | None = None,
        units: int | None = None,
        loss: Loss | None = None,
        optimizer: Any = None,
    ) -> Node:
        """Let a branch grow beside a node, or units inside it, so that no output changes.

        A branch is a clone of the node whose gate is closed. New units of width come into the node's hidden
        layers, ``by="zero"`` (they give nothing yet), ``"paired"`` (two that are equal give the opposite),
        ``"net2wider"`` (copies that share what led out of the old ones) or ``"gradmax"`` (they take nothing
        yet, and lead where the gradient into them is largest). Outputs keep their values up to the rounding
        of longer sums; while dropout or noise acts, on average only.

        Args:
            node: a node, its ``id`` or its tag; where that is a branch, the new one grows beside it.
            kind: what grows.
            tag: what a new branch is for; ``"expert_<number of births>"`` by default.
            by: how it arises; ``"clone"`` for a branch and ``"zero"`` for width by default.
            units: the number of new units in each layer; by default as many as it has.
            loss: for gradmax, runs the model on sample data and gives the loss.
            optimizer: follows, and is bound from then on: a branch gets a group, or groups, of its own, new
                units share that of the old ones. By default, the bound ones that train the node, each what is
                a copy of its own.

        Returns:
            The new node; for width the node itself.

        Raises:
            OptionError: there is no such node, or it can't grow in this way, with the reason.
        """
        if kind == "width":
            return grow_width(
                self, node, tag=tag, by=by or "zero", units=units, loss=loss, optimizer=optimizer
            )
        by = by or "clone"
        if kind != "branch" or by != "clone" or units is not None or loss is not None:
            raise OptionError(
                f"a node grows a 'branch' by 'clone', without units or loss, or 'width', not a {kind!r} by "
                f"{by!r}"
            )
        seat = seat_of(self.seats, node)
        refuse_sharded(seat.holder, seat.node.dynamic_id, "grow")
        binding = self._binding_for(seat) if optimizer is None else self._binding(optimizer)
        bindings = self._bindings if optimizer is None or binding is None else [binding]
        births = self.record["births"] + 1
        branch = self._born(seat, tag or f"expert_{births}", bindings)
        self.record["births"] = births
        born: Node = branch.node
        if binding is not None:
            try:
                welcome(bindings, binding, branch, seat, self.stabilization_steps)
            except BaseException:
                self._remove(branch)
                raise
        self.note("birth", born, tag=born.tag, of=seat.node.dynamic_id, kind=kind, by=by)
        return born

    def inject(self, node: Node | str, tag: str, *, optimizer: Any = None) -> Node:
        """Let a branch for something new, named by its tag, grow beside a node; else as :meth:`grow`."""
        return self.grow(node, tag=tag, optimizer=optimizer)

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

    def route(
        self,
        *tags: str,
        top_k: int | None = None,
        load_balance: float = 0.0,
        features: int | None = None,
        optimizer: Any = None,
    ) -> None:
        """Let only the branches of some tags or ids take part; without any, all do.

        With ``top_k`` these are the nodes that get a router instead, whose branches share in each sample as
        :func:`~bioconvert.organism.router.routed` says; no output changes while their gates are closed.

        Args:
            tags: tags or ids.
            top_k: how many branches of a node count for one sample.
            load_balance: the factor of :meth:`balance_loss`.
            features: size of the node's input, where its layers don't tell.
            optimizer: gets the parameters of the router; by default, the bound one that trains the branch.

        Raises:
            OptionError: there is no node of a tag, or the router's settings are out of range.
        """
        if top_k is not None:
            seats = self.seats
            blocks = [name for name, seat in seats.items() if not seat.key]
            for name in [name for tag in tags for name in _named(seats, tag)] or blocks:
                for seat in let_router_choose(self, name, top_k, load_balance, features):
                    binding = self._binding_for(seat) if optimizer is None else self._binding(optimizer)
                    if binding is not None:
                        names = [f"{ROUTER}.weight", f"{ROUTER}.bias"]
                        group = f"{seat.node.dynamic_id}/{ROUTER}"
                        binding.admit(seat, names, group, self.stabilization_steps)
            return
        seats = self.seats
        chosen = {name for tag in tags for name in _named(seats, tag)} if tags else set(seats)
        for name, seat in seats.items():
            if seat.key:
                seat.node.node_record["active"] = name in chosen

    def balance_loss(self) -> torch.Tensor:
        """Give what the routers' imbalance in the last forward pass adds to the loss.

        It is the sum over routers of ``load_balance`` times
        :func:`~bioconvert.organism.router.imbalance`; zero in evaluation, and when asked a second time.
        """
        return balance_loss(self)

    def status(self) -> list[Record]:
        """Say of each node what it is and how it does."""
        return [status_row(seat, self.step) for seat in self.seats.values()]

    def timeline(self, path: str | os.PathLike[str]) -> None:
        """Draw what happened as an SVG file: nodes' lives, number of parameters, and the loss if one is kept.

        Args:
            path: the file to write.
        """
        write_timeline(self, path)

    def __repr__(self) -> str:
        seats = self.seats.values()
        branches = sum(bool(seat.key) for seat in seats)
        return f"<Organism: {len(seats)} nodes, {branches} of them branches, step {self.step}>"

    def __str__(self) -> str:
        return status_text(self.status(), self.step)

    def note(self, event: str, node: Node | None, **told: Any) -> None:
        """Write an event into the history."""
        named = {} if node is None else {"node": node.dynamic_id}
        total = count_parameters(self.model)
        self.record["history"].append(
            {"step": self.step, "event": event, **named, **told, "parameters": total}
        )
        _log.info("step %d: %s %s", self.step, event, named.get("node", ""))

    def _born(self, seat: Seat, tag: str, bindings: Iterable[Binding]) -> Seat:
        host = seat.host
        key = str(host.node_record["births"] + 1)
        record = clone_record(seat.node.node_record, key, host.dynamic_id, tag, self.step)
        moment = partial(second_moment, [binding.optimizer for binding in bindings])
        branch = clone_of(seat.node, record, self.record["seed"], moment)
        add_branch(host, key, branch)
        began(self, self.seats[record["id"]])
        host.node_record["births"] += 1
        host.node_record["branches"].append(key)
        return self.seats[record["id"]]

    def _binding_for(self, seat: Seat) -> Binding | None:
        own = list(own_parameters(seat).values() or seat.node.parameters())
        found = self._bindings.training(own)
        # A node without parameters is trained by none, but the gate of its branch is to learn.
        return found if own else next(iter(self._bindings), None)

    def _binding(self, optimizer: Any) -> Binding:
        binding = self._bindings.of(optimizer)
        if binding is None:
            binding = Binding(self, optimizer, len(self._bindings))
            self._bindings.append(binding)
        return binding


def _named(seats: Seats, wanted: str) -> Iterable[str]:
    """Give the ids of all nodes of a tag, or the one of that ``id``."""
    found = [name for name, seat in seats.items() if wanted in (name, seat.node.tag)]
    if not found:
        raise OptionError(f"there is no node {wanted!r}. {hint(wanted, known(seats))}")
    return found


def _inside(model: nn.Module) -> nn.Module:
    """Give the model in its wrappers."""
    inner, wrapper = innermost(model)
    if not isinstance(inner, nn.Module):
        raise OptionError(f"a model must be an instance of torch.nn.Module, not {type(inner).__name__}")
    if wrapper is not None:
        raise OptionError(
            f"the model is {wrapper.said}, which has taken note of its parameters and would miss new ones: "
            "let the model itself grow, and wrap it afterwards"
        )
    return inner

"""Growth in a training loop: one call after each step."""

from __future__ import annotations

import logging
from statistics import fmean
from typing import Any

import torch

from bioconvert.core.errors import OptionError
from bioconvert.core.random import Stream
from bioconvert.organism.candidates import Watch
from bioconvert.organism.collective import (
    insist_on_agreement,
    insist_on_equal_gates,
    largest,
    mean_rows,
)
from bioconvert.organism.control import Row, absorb, settle, state_in
from bioconvert.organism.entropy import output_entropy
from bioconvert.organism.growth_size import added_parameters
from bioconvert.organism.node import Node
from bioconvert.organism.novelty import let_learn
from bioconvert.organism.organism import Organism
from bioconvert.organism.record import Record
from bioconvert.organism.seats import Seat, seat_of
from bioconvert.organism.triggers import Decision, GrowthConfig, Situation, growth_decision
from bioconvert.organism.width import planned

_log = logging.getLogger("bioconvert")
_COPIES = 4
"""Of each new parameter: itself, its gradient and two moments."""


class GrowthCallback:
    """Lets a model grow while it trains, when its own readings call for it.

    Call it after each step of the optimizer. Readings stay on their device; every ``check_every`` steps they
    are looked at and one decision is taken. All that it keeps lies in the model's record, so that a run that
    was killed between any two steps goes on as it would have: convert or load the model, make the optimizer,
    make the callback, then load the optimizer's state.

    In several processes the decision is taken on the mean of their readings, the same in each. A model in
    ``DistributedDataParallel`` must be put into a new one after a birth, which the callback returns.

    Args:
        organism: the organism, of the model itself where that is in a wrapper.
        optimizer: follows the growth; it is bound to the organism. Where others that are bound train what
            grows, each gets the copies of its own.
        config: when to grow, where and how; by default on a jump of the outputs' entropy.
        group: the processes that train together; by default all.

    Raises:
        OptionError: there is no node of that name, or it can't grow in width as the settings say.

    Example:
        >>> import bioconvert as bc
        >>> from torch import nn
        >>> rules = {"version": 1, "rules": [{"match": {"path": "0"}, "wrap": {}}]}
        >>> model = bc.convert(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), rules)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> config = GrowthConfig(trigger="manual", check_every=1)
        >>> callback = GrowthCallback(Organism(model), optimizer, config)
        >>> callback.request()
        >>> callback(loss=1.0).dynamic_id
        '0+1'
    """

    def __init__(
        self, organism: Organism, optimizer: Any, config: GrowthConfig | None = None, *, group: Any = None
    ):
        self.organism = organism.bind(optimizer)
        self.optimizer = optimizer
        self.config = GrowthConfig() if config is None else config
        self.group = group
        if self.config.node is not None:
            organism.get(self.config.node)
        self._check_width()
        self._added: tuple[object, int] = (None, 0)
        self._watch = Watch(self._watched()) if self.config.trigger == "gradient" else None

    @property
    def state(self) -> Record:
        """What is kept between decisions: see :func:`~bioconvert.organism.control.fresh_state`."""
        return state_in(self.organism.record["control"])

    @property
    def reason(self) -> str:
        """Why the last decision was what it was."""
        reason: str = self.state["reason"]
        return reason

    def __call__(self, *, loss: Any, outputs: Any = None) -> Node | None:
        """Take in a step, and perhaps grow.

        Args:
            loss: its loss, a number or a tensor of one element.
            outputs: what the model gave, of which the entropy is taken.

        Returns:
            The new node, if one was born; the node itself, if it grew in width.

        Raises:
            OptionError: outputs are wanted and missing.
            DecisionMismatchError: processes disagree.
        """
        state = self.state
        state["pending"].append(self._reading(loss, outputs))
        state["calls"] += 1
        return self._check(state) if state["calls"] % self.config.check_every == 0 else None

    def request(self, node: Node | str | None = None) -> None:
        """Ask for growth at the next decision; in several processes, in each of them.

        Only the phase and the caps on parameters and memory are held against it.

        Args:
            node: where; by default where the settings say.
        """
        seat = self._source() if node is None else seat_of(self.organism.seats, node)
        self.state["request"] = seat.node.dynamic_id

    def lock(self, *tags: str) -> None:
        """Let only the nodes of some tags or ids learn from now on."""
        self.organism.freeze_all_except(*tags)

    def unlock(self) -> None:
        """Let every node learn again."""
        self.organism.unfreeze()

    def remove(self) -> None:
        """Take off what watches gradients."""
        if self._watch is not None:
            self._watch.remove()

    def _check_width(self) -> None:
        """See now, and not in the middle of the training, that units can grow as the settings say."""
        config = self.config
        if config.kind == "width":
            by, stream = config.by or "zero", Stream(0, "check")
            planned(self._source(), self.organism.model, by=by, units=config.units, loss=None, stream=stream)

    def _reading(self, loss: Any, outputs: Any) -> torch.Tensor:
        found = [torch.as_tensor(loss).detach().reshape(())]
        if self._reads_entropy:
            if outputs is None:
                raise OptionError(
                    "outputs are missing: entropy is that of what the model gives. Call callback(loss=…, "
                    "outputs=…), or let a plateau of the loss be the trigger"
                )
            found.append(output_entropy(outputs))
        if self._watch is not None:
            found += self._watch.scores()
        # What comes from a GPU must not be fetched for the sake of a number that doesn't.
        device = next((each.device for each in found if each.device.type != "cpu"), found[0].device)
        return torch.stack([each.to(device, torch.float32) for each in found])

    @property
    def _reads_entropy(self) -> bool:
        return self.config.trigger == "entropy" or self.config.entropy_threshold is not None

    def _check(self, state: Record) -> Node | None:
        branches = {name: seat.branch for name, seat in self.organism.seats.items()}
        gates = {name: branch.gate for name, branch in branches.items() if branch is not None}
        insist_on_equal_gates(gates, self.group)
        rows = mean_rows(state["pending"].values(), self.group)
        state["pending"].clear()
        absorb(state, self.config, [self._signal(row) for row in rows], self.organism.step)
        self._note_where(state, rows)
        self._note_novelty(state, rows)
        seat = self._source()
        decision = growth_decision(self.config, state, self._situation(seat))
        state["spiked"] = False
        node = seat.node.dynamic_id
        self._tell(state, decision)
        insist_on_agreement((decision.grows, node, self.organism.step), "growth", self.group)
        return self._grow(state, seat, rows) if decision.grows else None

    def _signal(self, row: Row) -> Row:
        """Give the loss and the number that the trigger looks at."""
        if self._watch is None:
            return row[:2]
        scores = [value for value in self._scores(row) if value is not None]
        return [row[0], max(scores, default=None)]

    def _scores(self, row: Row) -> Row:
        return row[2:] if self._reads_entropy else row[1:]

    def _note_where(self, state: Record, rows: list[Row]) -> None:
        if self._watch is not None and rows:
            columns = zip(*map(self._scores, rows), strict=True)
            sums = [sum(value or 0.0 for value in scores) for scores in columns]
            state["where"] = self._watch.ids[sums.index(max(sums))]

    def _note_novelty(self, state: Record, rows: list[Row]) -> None:
        threshold = self.config.entropy_threshold
        if threshold is None:
            return
        entropies = [row[1] for row in rows if row[1] is not None]
        if not entropies:
            return
        novel = fmean(entropies) > threshold
        if novel != state["novel"]:
            state["novel"] = novel
            let_learn(self.organism, novel=novel)
            self.organism.note("novel" if novel else "familiar", None)

    def _tell(self, state: Record, decision: Decision) -> None:
        level = logging.INFO if decision.grows else logging.DEBUG
        if decision.reason != state["reason"]:
            _log.log(level, "step %d: growth: %s", self.organism.step, decision.reason)
        state["reason"] = decision.reason

    def _grow(self, state: Record, seat: Seat, rows: list[Row]) -> Node:
        config = self.config
        options = {"by": config.by, "units": config.units}
        given = {name: value for name, value in options.items() if value is not None}
        grow: Any = self.organism.grow
        trained = self.organism.is_trained(seat.node)
        optimizer = None if trained else self.optimizer
        born: Node = grow(seat.node, config.kind, tag=config.tag, optimizer=optimizer, **given)
        losses = [row[0] for row in rows if row[0] is not None]
        settle(state, self.organism.step, fmean(losses) if losses else None)
        if config.lock:
            self.organism.freeze_all_except(born.dynamic_id)
        elif config.entropy_threshold is not None:
            let_learn(self.organism, novel=True)
            state["novel"] = True
        if self._watch is not None:
            self._watch.remove()
            self._watch = Watch(self._watched())
        return born

    def _source(self) -> Seat:
        """Find the node that would grow."""
        seats, state = self.organism.seats, self.state
        for wanted in (state["request"], self.config.node, state["where"]):
            if wanted is not None and (wanted in seats or wanted == self.config.node):
                return seat_of(seats, wanted)
        return next(iter(seats.values()))

    def _watched(self) -> dict[str, Seat]:
        seats = self.organism.seats
        if self.config.node is not None:
            seat = seat_of(seats, self.config.node)
            return {seat.node.dynamic_id: seat}
        return {name: seat for name, seat in seats.items() if not seat.key}

    def _added_by(self, seat: Seat) -> int:
        """Count what a birth would add: anew after each change, since layers are looked for by tracing."""
        state = (seat.node.dynamic_id, len(self.organism.record["history"]))
        if self._added[0] != state:
            count = added_parameters(seat, self.organism.model, self.config.kind, self.config.units)
            self._added = (state, count)
        return self._added[1]

    def _situation(self, seat: Seat) -> Situation:
        parameters = list(self.organism.model.parameters())
        added = self._added_by(seat)
        device = parameters[0].device
        memory = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
        return Situation(
            step=self.organism.step,
            parameters=sum(p.numel() for p in parameters),
            added=added,
            memory=largest(memory, self.group),
            added_memory=_COPIES * added * parameters[0].element_size() if memory else 0,
        )

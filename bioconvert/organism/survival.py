"""Which nodes live on: measuring what they are worth, letting the idle ones fade, and removing these."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from statistics import fmean
from typing import Any, Literal

import torch

from bioconvert.core.errors import OptionError
from bioconvert.organism.collective import mean_rows
from bioconvert.organism.node import BYPASSED, Node
from bioconvert.organism.optimizer import unwrapped
from bioconvert.organism.organism import Organism
from bioconvert.organism.pruning_bypass import bypass_refusal
from bioconvert.organism.refit_samples import Batches, as_batches
from bioconvert.organism.seats import Seat, own_parameters
from bioconvert.organism.utilities import MEASURES, utility_in
from bioconvert.organism.utilities_watch import Watch

Measure = Literal["information", "taylor", "activation"]
_log = logging.getLogger("bioconvert")


class Survival:
    """Measures the nodes of an organism while it works, and says which of them are to die.

    Nodes are measured inside a ``with`` statement, or between :meth:`watch` and :meth:`unwatch`, whenever
    they run uncompiled; no step waits for the device. What was measured, and who is dying, lies in the nodes'
    records and is saved with the model.

    Args:
        organism: the organism.
        by: what counts: ``"information"``, how far a branch moves its host's softmaxed output, or a block
            that of its input; ``"taylor"``, activation times gradient; ``"activation"``, its mean size.
        threshold: below it a node is dying; for information a divergence, else a share of the mean over all
            nodes.
        decay: by what share the parameters of dying nodes shrink in :meth:`apply_selective_decay`.
        blocks: whether blocks of the model itself may die, too, and not branches only.

    Raises:
        OptionError: a value is out of range.

    Example:
        >>> from torch import nn
        >>> import bioconvert as bc
        >>> rules = {"version": 1, "rules": [{"match": {"path": "0"}, "wrap": {"grace": 0}}]}
        >>> model = bc.convert(nn.Sequential(nn.Linear(4, 4)), rules)
        >>> organism = Organism(model)
        >>> _ = organism.grow("0")
        >>> with Survival(organism) as survival:
        ...     _ = model(torch.ones(2, 4))
        >>> survival.mark(), organism.record["step"]
        (['0+1'], 0)
    """

    def __init__(
        self,
        organism: Organism,
        *,
        by: Measure = "information",
        threshold: float = 0.01,
        decay: float = 1e-3,
        blocks: bool = False,
    ):
        if by not in MEASURES:
            raise OptionError(f"by must be one of {', '.join(MEASURES)}, not {by!r}")
        if not (threshold >= 0 and 0 <= decay < 1):
            raise OptionError(
                f"threshold must be at least 0 and decay in [0, 1), not {threshold} and {decay}"
            )
        self.organism = organism
        self.by = by
        self.threshold = threshold
        self.decay = decay
        self.blocks = blocks
        self._watches: dict[Node, Watch] = {}
        self._hooks: list[Any] = []

    def watch(self) -> Survival:
        """Measure from now on; nodes that are born later on, too, as branches of these."""
        for seat in self.organism.seats.values():
            if seat.node not in self._watches and not seat.key:
                self._watches[seat.node] = Watch(seat.node)
        return self

    def unwatch(self) -> None:
        """Measure no more; what was measured stays."""
        for watch in self._watches.values():
            watch.remove()
        self._watches.clear()

    def __enter__(self) -> Survival:
        return self.watch()

    def __exit__(self, *_: object) -> None:
        self.unwatch()

    def bind(self, optimizer: Any, *, every: int = 100) -> Survival:
        """Watch, let dying nodes fade after each step of an optimizer, and mark them anew now and then.

        Args:
            optimizer: any optimizer.
            every: number of its steps between two calls of :meth:`mark`, each of which waits for the device.
        """
        if every < 1:
            raise OptionError(f"every must be at least 1, not {every}")

        def stepped(*_: Any) -> None:
            self.apply_selective_decay()
            state = self.organism.record["control"].setdefault("survival", {"steps": 0})
            state["steps"] += 1
            if state["steps"] % every == 0:
                self.mark()

        self._hooks.append(unwrapped(optimizer).register_step_post_hook(stepped))
        return self.watch()

    def unbind(self) -> None:
        """Let all optimizers step alone again, and measure no more."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self.unwatch()

    def utilities(self) -> dict[str, dict[str, float | None]]:
        """Fetch what each node was measured to be worth, by its ``id``; the mean over all processes.

        ``None`` stands for what couldn't be measured, as the information of a block that changes the shape.
        """
        seats = self.organism.seats
        held = [utility_in(seat.node.node_record).values() for seat in seats.values()]
        rows = mean_rows([[each[name][0] if name in each else None for name in MEASURES] for each in held])
        return {name: dict(zip(MEASURES, row, strict=True)) for name, row in zip(seats, rows, strict=True)}

    def mark(self) -> list[str]:
        """Say of each measured node anew whether it is dying: past its grace, and worth too little.

        Immortal nodes never are; of nodes that weren't measured, the flag stays as it is.

        Returns:
            The ids of all that are dying.
        """
        found = {name: values[self.by] for name, values in self.utilities().items()}
        unit = 1.0 if self.by == "information" else fmean([v for v in found.values() if v is not None] or [0])
        for name, seat in self._mortal():
            value = found[name]
            if value is not None:
                seat.node.node_record["dying"] = self._is_past_grace(seat) and value < self.threshold * unit
        return self.dying()

    def dying(self) -> list[str]:
        """Give the ids of the nodes that are dying."""
        return [name for name, seat in self._mortal() if seat.node.node_record["dying"]]

    @torch.no_grad()
    def apply_selective_decay(self) -> None:
        """Let what learns of dying nodes, gates too, shrink by the share ``decay``."""
        for _, seat in self._mortal():
            if seat.node.node_record["dying"]:
                gate = [] if seat.branch is None else [seat.branch.gate]
                for parameter in (*own_parameters(seat).values(), *gate):
                    if parameter.requires_grad:
                        parameter.mul_(1 - self.decay)

    def garbage_collect(self, *, optimizer: Any = None, refit: Batches | None = None) -> list[str]:
        """Remove the nodes that are dying and past their grace: see :meth:`Organism.prune`.

        A block that can't become a pass-through stays, and the log says why.

        Args:
            optimizer: forgets their parameters, as those that are bound do.
            refit: batches on which the layers around take over what they can.

        Returns:
            The ids of those that went.
        """
        batches = None if refit is None else as_batches(refit)
        gone = []
        for name in self.dying():
            seat = self.organism.seats.get(name)  # it may have gone with another one
            if seat is None or not self._is_past_grace(seat) or not self._can_go(seat, batches):
                continue
            self.organism.prune(name, optimizer=optimizer, refit=batches)
            seat.node.node_record["dying"] = False
            gone.append(name)
        return gone

    def _can_go(self, seat: Seat, batches: Any) -> bool:
        reason = None if seat.key else bypass_refusal(self.organism.model, seat.node, batches or [])
        if reason is not None:
            _log.warning("%s is dying and stays: %s", seat.node.dynamic_id, reason)
        return reason is None

    def _mortal(self) -> Iterator[tuple[str, Seat]]:
        for name, seat in self.organism.seats.items():
            record = seat.node.node_record
            may_die = self.blocks or bool(seat.key) or record["dying"]
            if may_die and not record["immortal"] and record.get(BYPASSED) is None:
                yield name, seat

    def _is_past_grace(self, seat: Seat) -> bool:
        record = seat.node.node_record
        return bool(self.organism.step - record["born"] >= record["grace"])

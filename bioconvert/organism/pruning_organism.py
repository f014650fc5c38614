"""What an organism offers to make itself smaller: branches, blocks and hidden units that go."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import nn

from bioconvert.core.errors import OptionError
from bioconvert.organism.collective import insist_on_agreement, refuse_sharded
from bioconvert.organism.node import BYPASSED, Node, remove_branch
from bioconvert.organism.pruning import prune_refitting
from bioconvert.organism.pruning_bypass import bypass, bypass_refusal, idle_parameters
from bioconvert.organism.pruning_scores import Loss, Score
from bioconvert.organism.pruning_units import PrunedUnits, Wish, prune_units
from bioconvert.organism.record import Record
from bioconvert.organism.refit_samples import Batches, as_batches
from bioconvert.organism.seats import Seat, seat_of, seats_in

if TYPE_CHECKING:
    from bioconvert.organism.binding import Binding, Bindings


class Pruning:
    """The methods of :class:`bioconvert.organism.Organism` by which parts of it go."""

    model: nn.Module
    record: Record
    _bindings: Bindings

    note: Callable[..., None]
    _binding: Callable[[Any], Binding]

    def prune(
        self,
        node: Node | str,
        *,
        optimizer: Any = None,
        refit: Batches | None = None,
        fold_bias: bool = True,
        ridge: float | None = None,
    ) -> None:
        """Take a branch away for good: from the model, and from the optimizers that are bound.

        A block of the model itself becomes a pass-through, where what it gives has the shape of what it
        takes: it computes and learns nothing any more. Its parameters leave the optimizers, and stay in the
        model for :func:`bioconvert.revert`.

        Args:
            node: a node, its ``id`` or its tag.
            optimizer: forgets its parameters, too.
            refit: batches of the model's inputs, each a tensor, or positional arguments or keyword arguments;
                on them, the layers around take over what they can of it. Of a block, it is the layers behind.
            fold_bias: whether the last layer of the host takes part, where the host's output is just what
                that layer gives: the mean goes into its bias.
            ridge: strength of the refit, in units of the mean variance of an input; by default from the data.

        Raises:
            OptionError: it is immortal, or a block that nothing can stand for.
        """
        seat = seat_of(seats_in(self.model), node)
        self._refuse(seat)
        batches = [] if refit is None else as_batches(refit)
        reason = None if seat.key else bypass_refusal(self.model, seat.node, batches)
        if reason is not None:
            raise OptionError(f"{seat.node.dynamic_id!r} can't become a pass-through: {reason}")
        insist_on_agreement(seat.node.dynamic_id, "which node dies")
        if optimizer is not None:
            self._binding(optimizer)
        told: Record = {}
        if batches and seat.node.node_record["active"]:
            told["refit"] = prune_refitting(
                self.model,
                seat.host,
                lambda: self._remove(seat),
                batches,
                last=fold_bias and bool(seat.key),
                strength=ridge,
            )
        else:
            self._remove(seat)
        self.note("death", seat.node, tag=seat.node.tag, **told)

    def prune_units(
        self,
        node: Node | str,
        fraction: float | None = None,
        *,
        units: int | None = None,
        by: Score = "taylor",
        refit: Batches | None = None,
        samples: Batches | None = None,
        loss: Loss | None = None,
        ridge: float | None = None,
        optimizer: Any = None,
    ) -> list[PrunedUnits]:
        """Take hidden units from the layers of a node, and fit the layers behind them to what they gave.

        Hidden are the units of a Linear or a convolution that one other such layer in the node takes, behind
        activations, BatchNorm, pooling or flattening; each layer keeps one. Parameters stay the objects that
        they are, with other shapes. What the units knew is gone: :func:`bioconvert.revert` puts zeros in
        their places, behind those of the others, and so keeps what the pruned model computes.

        Args:
            node: a node, its ``id`` or its tag.
            fraction: the share of each layer's units that go.
            units: the number of each layer's units that go, instead.
            by: what decides: ``"taylor"``, activation times gradient; ``"activation"``, its mean size;
                ``"magnitude"``, the norm of the incoming weights; or ``"random"``.
            refit: batches of the model's inputs, each a tensor, or positional arguments or keyword arguments,
                on which the layers behind are fitted; without, the loss of accuracy is great.
            samples: those for the scores; by default the same.
            loss: takes the model's output on a batch and the batch's number; by default half the mean square
                of the output.
            ridge: strength of the refit, in units of the mean variance of an input; by default from the data.
            optimizer: forgets the units, as those that are bound do.

        Returns:
            What became of each layer.

        Raises:
            OptionError: the node is immortal; it has no such units, with each layer's reason; or a layer
                behind isn't linear in its input.
        """
        seat = seat_of(seats_in(self.model), node)
        self._refuse(seat)
        if optimizer is not None:
            self._binding(optimizer)
        refitting = [] if refit is None else as_batches(refit)
        done = prune_units(
            self.model,
            seat.node,
            Wish(fraction, units, by, self.record["seed"], seat.node.dynamic_id, loss),
            samples=refitting if samples is None else as_batches(samples),
            refitting=refitting,
            strength=ridge,
            optimizers=[binding.optimizer for binding in self._bindings],
        )
        layers = {each.path: [each.before, each.after] for each in done}
        self.note("units pruned", seat.node, by=by, layers=layers, refit=bool(refitting))
        return done

    def _refuse(self, seat: Seat) -> None:
        if seat.node.node_record["immortal"]:
            raise OptionError(f"{seat.node.dynamic_id!r} is immortal")
        refuse_sharded(seat.holder, seat.node.dynamic_id, "be pruned")

    def _remove(self, seat: Seat) -> None:
        if seat.key:
            gone = list(remove_branch(seat.host, seat.key).parameters())
            seat.host.node_record["branches"].remove(seat.key)
        else:
            bypass(seat)
            gone = idle_parameters(seat.node)
        self._strike_out({id(p) for p in gone})
        for binding in self._bindings:
            binding.forget(gone)

    def _strike_out(self, gone: set[int]) -> None:
        """Let no record name a parameter that isn't there, or does nothing, any more."""
        seats = seats_in(self.model)
        for record in self.record["groups"]:
            seat = seats.get(record["of"])
            held = {} if seat is None else dict(seat.holder.named_parameters())
            record["parameters"] = [
                name for name in record["parameters"] if name in held and id(held[name]) not in gone
            ]
        for node in (seat.node for seat in seats.values()):
            if node.node_record.get(BYPASSED) is not None:
                there = dict(node.named_parameters())
                node.node_record[BYPASSED] = [name for name in node.node_record[BYPASSED] if name in there]

"""Growth of a network under the names that users of dno know."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from bioconvert.core.errors import OptionError
from bioconvert.organism.affinity import candidate_tags, probe_expert_affinity
from bioconvert.organism.config import DnoConfig
from bioconvert.organism.control import absorb, settle, state_in
from bioconvert.organism.novelty import is_expert
from bioconvert.organism.optimizer import set_rate, unwrapped
from bioconvert.organism.triggers import GrowthConfig, Situation, growth_decision

if TYPE_CHECKING:
    from bioconvert.organism.network import DynamicNetwork
    from bioconvert.organism.node import Node
    from bioconvert.organism.organism import Organism
    from bioconvert.organism.record import Record

_KEPT = 512
"""Readings by which those of the next call that were given before are known."""


class GrowthEngine:
    """Decides when a network grows, and lets it.

    What it has read so far lies in the network's record and is saved with it.

    Args:
        network: the network.
        config: every knob; those of the moment count.

    Example:
        >>> from torch import nn
        >>> from bioconvert.organism import DynamicNetwork
        >>> network = DynamicNetwork()
        >>> core = network.add_layer(nn.Linear(4, 4), name="core")
        >>> engine = GrowthEngine(network, network.config)
        >>> engine.inject_layer("core", "expert_a").dynamic_id
        'core+1'
        >>> engine.check_growth_trigger([0.5, 0.5, 0.5], current_step=10)
        (False, "phase 'scratch' locks growth")
    """

    def __init__(self, network: DynamicNetwork, config: DnoConfig):
        self.network = network
        self.config = config
        self._step = 0
        self._loss: float | None = None

    @property
    def organism(self) -> Organism:
        """The nodes of the network together."""
        return self.network.organism

    def check_growth_trigger(
        self, entropy_history: Sequence[float], current_step: int, current_loss: float | None = None
    ) -> tuple[bool, str]:
        """Say whether the network should grow now, and why.

        Against it speak, in this order: the phase; the time since the last birth; the loss, if it has not
        come down since then; the caps on parameters and memory; fewer than three entropies; a baseline that
        isn't complete; and a mean of the last three that is no jump. After a jump the baseline is built anew.

        Args:
            entropy_history: the latest entropies; those of the last call may be among them.
            current_step: the step.
            current_loss: the loss.
        """
        settings, state = self._settings(), self._state
        self._step, self._loss = current_step, current_loss
        heard: list[float] = state.setdefault("heard", [])
        fresh = _fresh(entropy_history, heard)
        heard.extend(fresh)
        del heard[:-_KEPT]
        rows: list[list[float | None]] = [[None, value] for value in fresh]
        if current_loss is not None:
            rows = [*rows[:-1], [current_loss, *(row[1] for row in rows[-1:])]]
        absorb(state, settings, rows, current_step)
        decision = growth_decision(settings, state, self._situation(current_step))
        state.update(spiked=False, reason=decision.reason)
        if decision.grows:
            state["signals"].clear()
        return decision.grows, decision.reason

    def mitosis(
        self,
        parent_uuid: str,
        optimizer: Any = None,
        base_lr: float | None = None,
        current_loss: float | None = None,
        specialty_tag: str | None = None,
        current_step: int | None = None,
    ) -> Node:
        """Let a branch grow beside a node: a clone of it behind a closed gate, so that no output changes.

        Args:
            parent_uuid: the node, by ``id`` or tag.
            optimizer: gets the new parameters, at 10 times the base rate, which comes down to it.
            base_lr: the rate; by default that of the parameters they are copies of.
            current_loss: the loss at birth; by default that of the last check.
            specialty_tag: what the new node is for; ``"expert_<number of births>"`` by default.
            current_step: the step of the birth; by default that of the last check.

        Returns:
            The new node.

        Raises:
            OptionError: there is no such node, or the rate isn't above 0.
        """
        if base_lr is not None and not base_lr > 0:
            raise OptionError(f"base_lr must be above 0, not {base_lr}")
        before = len(self.organism.record["groups"])
        born = self.organism.grow(parent_uuid, tag=specialty_tag, optimizer=optimizer)
        loss = self._loss if current_loss is None else current_loss
        settle(self._state, self._step if current_step is None else current_step, loss)
        if optimizer is not None and base_lr is not None:
            self._set_base(optimizer, self.organism.record["groups"][before:], base_lr)
        return born

    def inject_layer(
        self, parent_tag_or_uuid: str, new_tag: str, optimizer: Any = None, base_lr: float = 1e-3
    ) -> Node:
        """Let a branch for something new grow beside a node, whatever :meth:`check_growth_trigger` says."""
        return self.mitosis(
            parent_tag_or_uuid, optimizer, None if optimizer is None else base_lr, specialty_tag=new_tag
        )

    def freeze_all_except(self, target_tag: str) -> None:
        """Let only the nodes of a tag or ``id`` learn."""
        self.organism.freeze_all_except(target_tag)

    def stabilize_optimizer(self, optimizer: Any) -> None:
        """Set the rates of new parameters for the step that comes.

        From the first call on, the optimizer does so itself; calling it each step does no harm.
        """
        self.organism.set_rates(optimizer)

    def probe_expert_affinity(
        self, data_batches: Iterable[Any], *, include_core: bool = True
    ) -> tuple[str | None, dict[str, float]]:
        """Find the expert that is surest of data, and let no other one take part.

        Args:
            data_batches: batches of inputs, of which ``affinity_probe_steps`` are looked at.
            include_core: whether the core without any expert may claim them.

        Returns:
            The tag with the lowest entropy of the network's outputs, as a share of the largest there could
            be, or ``None`` where it is above ``entropy_threshold`` and a new expert is needed; and the
            entropies by tag.
        """
        tags = [tag for tag in candidate_tags(self.organism) if include_core or is_expert(tag)]
        if not tags:
            return None, {}
        found = probe_expert_affinity(
            self.organism, data_batches, tags=tags, steps=self.config.affinity_probe_steps
        )
        entropies = dict(found.entropies)
        if entropies[found.claimed] > self.config.entropy_threshold:
            return None, entropies
        self.network.set_active_expert(found.claimed)
        return found.claimed, entropies

    @property
    def _state(self) -> Record:
        return state_in(self.organism.record["control"])

    def _settings(self) -> GrowthConfig:
        config = self.config
        config.check()
        return GrowthConfig(
            training_phase=config.training_phase,
            entropy_baseline_window=config.entropy_baseline_window,
            entropy_spike_factor=config.entropy_spike_factor,
            evolution_cooldown_steps=config.evolution_cooldown_steps,
            min_loss_improvement=config.min_loss_improvement,
            max_param_count=config.max_param_count,
            vram_limit_gb=config.vram_limit_gb,
        )

    def _situation(self, step: int) -> Situation:
        parameters = list(self.network.parameters())
        device = parameters[0].device if parameters else torch.device("cpu")
        memory = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
        return Situation(step, sum(p.numel() for p in parameters), added=0, memory=memory)

    def _set_base(self, optimizer: Any, records: list[Record], base_lr: float) -> None:
        for record in records:
            record["base_lr"] = base_lr
            set_rate(unwrapped(optimizer), record, self.organism.step)


def _fresh(history: Sequence[float], heard: Sequence[float]) -> list[float]:
    """Give the readings that are new: at least the last one, since every call follows a step."""
    values = [float(value) for value in history]
    for count in range(1, len(values)):
        overlap = values[:-count]
        length = min(len(overlap), len(heard))
        if length and list(heard[-length:]) == overlap[-length:]:
            return values[-count:]
    return values

"""Whether a model should grow now: a function of settings and readings, and of nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal, get_args

from bioconvert.core.errors import OptionError
from bioconvert.core.suggest import hint
from bioconvert.organism.record import Record

Trigger = Literal["entropy", "plateau", "gradient", "manual"]
RECENT = 3
"""Readings whose mean is held against the baseline."""
_GIB = 2**30


@dataclass(frozen=True, slots=True)
class GrowthConfig:
    """When a model grows, where and how.

    Args:
        trigger: what lets it grow: ``"entropy"`` of its outputs jumping, its loss on a ``"plateau"``, a jump
            of the largest ``"gradient"`` that a new branch would get, or ``"manual"`` requests alone.
        node: the node that grows, by tag or id; by default the first one, and with the trigger
            ``"gradient"`` the one whose new branch would get the largest.
        kind: what grows: a ``"branch"``, or units in ``"width"``.
        by: how it arises: ``"clone"`` for a branch; ``"zero"``, ``"paired"`` or ``"net2wider"`` for width.
        tag: what new nodes are for; ``"expert_<number of births>"`` by default.
        units: how many units, for growth in width.
        training_phase: ``"scratch"`` locks growth, ``"adaptive"`` lets it happen.
        entropy_baseline_window: number of readings that make the baseline of a jump.
        entropy_spike_factor: the multiple of the baseline that is a jump.
        evolution_cooldown_steps: number of steps after a birth without another.
        min_loss_improvement: how far the loss must have come down since the last birth before another.
        plateau_window: number of readings that are held against as many before them.
        plateau_tolerance: the share of the loss that must go from window to window, else it is a plateau.
        max_param_count: number of parameters that no birth goes beyond.
        vram_limit_gb: memory of a GPU, in GiB, that no birth goes beyond, with its gradients and two moments.
        check_every: number of steps between decisions, at which readings come from the device.
        lock: whether after a birth only the new branch learns; what is in no node goes on.
        entropy_threshold: entropy of the outputs from which data are novel, so that experts learn and the
            core is frozen, and below which it is the other way round; ``None`` freezes nothing.

    Raises:
        OptionError: a value is out of range or unknown.
    """

    trigger: Trigger = "entropy"
    node: str | None = None
    kind: str = "branch"
    by: str | None = None
    tag: str | None = None
    units: int | None = None
    training_phase: str = "adaptive"
    entropy_baseline_window: int = 50
    entropy_spike_factor: float = 1.3
    evolution_cooldown_steps: int = 100
    min_loss_improvement: float = 1e-3
    plateau_window: int = 50
    plateau_tolerance: float = 0.01
    max_param_count: float = 1e9
    vram_limit_gb: float = 12.0
    check_every: int = 10
    lock: bool = False
    entropy_threshold: float | None = None

    def __post_init__(self) -> None:
        _one_of("trigger", self.trigger, get_args(Trigger))
        _one_of("kind", self.kind, ("branch", "width"))
        _one_of("by", self.by, ("clone",) if self.kind == "branch" else ("zero", "paired", "net2wider"))
        _one_of("training_phase", self.training_phase, ("scratch", "adaptive"))
        for name in ("entropy_baseline_window", "plateau_window", "check_every"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("max_param_count", "vram_limit_gb", "entropy_spike_factor"):
            if not getattr(self, name) > 0:
                raise OptionError(f"{name} must be positive, not {getattr(self, name)}")
        if self.entropy_threshold is not None and not 0 < self.entropy_threshold < 1:
            raise OptionError(
                "entropy_threshold is a share of the largest entropy, between 0 and 1, not "
                f"{self.entropy_threshold}"
            )


@dataclass(frozen=True, slots=True)
class Situation:
    """What a decision depends on beside readings.

    Args:
        step: the step.
        parameters: number of the model's parameters.
        added: number of parameters that a birth would add.
        memory: memory in use on the GPU, in bytes; 0 without one.
        added_memory: what a birth would add to it.
    """

    step: int
    parameters: int
    added: int
    memory: int = 0
    added_memory: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether to grow, and why.

    Args:
        grows: whether to.
        reason: in words.
    """

    grows: bool
    reason: str


def growth_decision(config: Any, state: Record, now: Situation) -> Decision:
    """Decide on growth: the first thing that speaks against it is the reason.

    In this order: the phase, the time since the last birth, the loss since then, parameters and memory, the
    number of readings, the baseline, the jump. A request by hand waits for phase, parameters and memory only.

    Args:
        config: a :class:`GrowthConfig`, or what has its attributes.
        state: the readings, as :func:`~bioconvert.organism.control.fresh_state` begins them.
        now: everything else.
    """
    case = _Case(config, state, now)
    requested = state["request"] is not None
    order = (case.phase, case.cooldown, case.improvement, case.caps)
    for gate in (case.phase, case.caps) if requested else order:
        against = gate()
        if against is not None:
            return Decision(False, against)
    return Decision(True, "requested by hand") if requested else case.signal()


def is_spike(signals: Sequence[float], window: int, factor: float) -> bool:
    """Say whether the mean of the last three readings is above the baseline, times a factor.

    The baseline is the mean over a window of the readings before these three.
    """
    if len(signals) < window + RECENT:
        return False
    return fmean(signals[-RECENT:]) > factor * fmean(signals[-window - RECENT : -RECENT])


@dataclass(frozen=True, slots=True)
class _Case:
    """What speaks for and against growth; the first four give what is against it, in words, or ``None``."""

    config: Any
    state: Record
    now: Situation

    def phase(self) -> str | None:
        phase = self.config.training_phase
        return None if phase == "adaptive" else f"phase {phase!r} locks growth"

    def cooldown(self) -> str | None:
        birth, steps = self.state["birth"], self.config.evolution_cooldown_steps
        if birth is None or self.now.step - birth["step"] >= steps:
            return None
        return f"{self.now.step - birth['step']} of {steps} steps since the last birth"

    def improvement(self) -> str | None:
        birth, best, least = self.state["birth"], self.state["best"], self.config.min_loss_improvement
        if birth is None or birth["loss"] is None:
            return None
        if best is not None and birth["loss"] - best >= least:
            return None
        return f"the loss has not come down by {least:g} since the last birth"

    def caps(self) -> str | None:
        now, most, limit = self.now, self.config.max_param_count, self.config.vram_limit_gb
        if now.parameters + now.added > most:
            return f"{now.parameters + now.added:,} parameters would be more than {most:,.0f}"
        if now.memory + now.added_memory > limit * _GIB:
            return f"the memory in use would be more than {limit:g} GiB"
        return None

    def signal(self) -> Decision:
        if self.config.trigger == "manual":
            return Decision(False, "nothing was requested")
        return self._plateau() if self.config.trigger == "plateau" else self._spike()

    def _spike(self) -> Decision:
        count, name = len(self.state["signals"]), self.config.trigger
        window = self.config.entropy_baseline_window
        if count < RECENT:
            return Decision(False, f"{count} of {RECENT} readings")
        if count < window + RECENT:
            return Decision(False, f"baseline: {count - RECENT} of {window} readings")
        if not self.state["spiked"]:
            return Decision(False, f"{name} is near its baseline")
        return Decision(True, f"{name} rose above {self.config.entropy_spike_factor:g} times its baseline")

    def _plateau(self) -> Decision:
        losses, window = self.state["losses"], self.config.plateau_window
        if len(losses) < 2 * window:
            return Decision(False, f"{len(losses)} of {2 * window} readings")
        before, last = fmean(losses[-2 * window : -window]), fmean(losses[-window:])
        if before - last > self.config.plateau_tolerance * abs(before):
            return Decision(False, "the loss comes down")
        return Decision(True, f"the loss has stayed at {last:.4g} for {window} readings")


def _one_of(name: str, value: str | None, known: Sequence[str]) -> None:
    if value is not None and value not in known:
        raise OptionError(f"{name} can't be {value!r}. {hint(value, set(known))}")

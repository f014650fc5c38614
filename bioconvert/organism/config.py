"""Every knob of an organism in one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from bioconvert.core.errors import OptionError
from bioconvert.core.suggest import hint

PHASES = ("scratch", "adaptive")
"""Growth is off, or on."""
_WIDTHS = ((100_000_000, 1024), (10_000_000, 512), (0, 256))
"""From so many parameters on, this width."""
_HEADS = ((1024, 16), (512, 8), (0, 4))
"""From a width on, so many heads."""
_RATES = (5e-4, 1e-4)
"""Of a network below the largest size, and of one of that size."""
_AT_LEAST_ONE = frozenset(
    {
        "entropy_baseline_window",
        "affinity_probe_steps",
        "max_param_count",
        "d_model",
        "n_heads",
        "initial_params_estimate",
    }
)
_WHOLE = _AT_LEAST_ONE | {"evolution_cooldown_steps", "stabilization_steps", "grace_period"}
_POSITIVE = frozenset({"entropy_spike_factor", "vram_limit_gb", "learning_rate"})


@dataclass
class DnoConfig:
    """What an organism may do, and when.

    Args:
        training_phase: ``"scratch"``, in which nothing grows, or ``"adaptive"``.
        entropy_threshold: the entropy from which an input counts as novel.
        entropy_baseline_window: number of entropies that make up the baseline.
        entropy_spike_factor: growth needs an entropy above the baseline times this.
        evolution_cooldown_steps: number of steps after a birth in which there is no other one.
        min_loss_improvement: by how much the loss must have fallen since the last birth.
        stabilization_steps: number of steps within which the rate of new parameters comes down.
        affinity_probe_steps: number of batches by which a node for new data is chosen.
        pruning_decay_constant: the part of a dying node's weights that it loses each step.
        utility_threshold: the utility below which a node is dying.
        grace_period: number of steps that a dying node has to recover.
        max_param_count: number of parameters from which nothing grows.
        vram_limit_gb: memory of the accelerator, in GB, from which nothing grows.
        d_model: width of a block of a transformer; by ``initial_params_estimate`` where it isn't given.
        n_heads: number of its attention heads; 4, 8 or 16, by the width, where it isn't given.
        learning_rate: a rate that suits the width.
        dropout_rate: the part of its activations that is dropped in training.
        manual_mode: whether ``d_model``, ``n_heads`` and ``learning_rate`` stay as they are given.
        initial_params_estimate: number of parameters that the network is expected to have.

    Raises:
        OptionError: values that can't be; all of them are named.

    Example:
        >>> DnoConfig(training_phase="adaptive", d_model=64).n_heads
        4
    """

    training_phase: str = "scratch"
    entropy_threshold: float = 0.6
    entropy_baseline_window: int = 50
    entropy_spike_factor: float = 1.3
    evolution_cooldown_steps: int = 100
    min_loss_improvement: float = 1e-3
    stabilization_steps: int = 100
    affinity_probe_steps: int = 10
    pruning_decay_constant: float = 1e-3
    utility_threshold: float = 0.01
    grace_period: int = 100
    max_param_count: int = 1_000_000_000
    vram_limit_gb: float = 12.0
    d_model: int | None = None
    n_heads: int | None = None
    learning_rate: float | None = None
    dropout_rate: float = 0.1
    manual_mode: bool = False
    initial_params_estimate: int = 50_000_000

    def __post_init__(self) -> None:
        self.check()
        if not self.manual_mode:
            self._scale()

    def check(self) -> None:
        """See that every value can be; called again by what reads a configuration that may have changed.

        Raises:
            OptionError: some can't be.
        """
        problems = [problem for each in fields(self) if (problem := self._problem(each.name))]
        if problems:
            raise OptionError("; ".join(problems))

    def to_dict(self) -> dict[str, Any]:
        """Give the values by name."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DnoConfig:
        """Make a configuration that has exactly some values.

        Raises:
            OptionError: a name that is unknown, or a value that can't be.
        """
        known = {each.name for each in fields(cls)}
        for name in values:
            if name not in known:
                raise OptionError(f"there is no setting {name!r}. {hint(name, known)}")
        made = cls(**{**values, "manual_mode": True})
        made.manual_mode = bool(values.get("manual_mode", False))
        return made

    def _scale(self) -> None:
        """Fill in what isn't given, by the expected size."""
        self.d_model = self.d_model or _from(self.initial_params_estimate, _WIDTHS)
        self.n_heads = self.n_heads or _from(self.d_model, _HEADS)
        self.learning_rate = self.learning_rate or _RATES[self.d_model >= _HEADS[0][0]]

    def _problem(self, name: str) -> str | None:
        value = getattr(self, name)
        if name == "training_phase":
            return None if value in PHASES else f"training_phase must be one of {PHASES}, not {value!r}"
        if name == "manual_mode":
            return None if isinstance(value, bool) else f"manual_mode must be True or False, not {value!r}"
        if value is None and name in {"d_model", "n_heads", "learning_rate"}:
            return None
        if name in _WHOLE:
            least = int(name in _AT_LEAST_ONE)
            fits = isinstance(value, int) and not isinstance(value, bool) and value >= least
            return None if fits else f"{name} must be a whole number from {least}, not {value!r}"
        return self._real_problem(name, value)

    def _real_problem(self, name: str, value: object) -> str | None:
        if not isinstance(value, (int, float)) or isinstance(value, bool) or value != value:
            return f"{name} must be a number, not {value!r}"
        if name == "dropout_rate":
            return None if 0 <= value < 1 else f"dropout_rate must be from 0 to below 1, not {value!r}"
        if name in _POSITIVE:
            return None if value > 0 else f"{name} must be above 0, not {value!r}"
        return None if value >= 0 else f"{name} must not be below 0, not {value!r}"


def _from(value: int, table: tuple[tuple[int, int], ...]) -> int:
    return next(found for least, found in table if value >= least)

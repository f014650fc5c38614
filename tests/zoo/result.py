"""What one model's check found, as a value that JSON can hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Outcome = Literal["ok", "failed", "exempt", "unavailable"]


@dataclass(frozen=True)
class Step:
    """One thing that was checked.

    Args:
        name: what it is.
        outcome: how it went; ``"exempt"`` where the original has no outcome of its own to compare with, and
            ``"unavailable"`` where this version of the package can't do it.
        reason: in words, unless it went well.
        seconds: how long it took.
    """

    name: str
    outcome: Outcome
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Result:
    """All that was found out about one model.

    Args:
        title: source and name.
        steps: what was checked, in order.
        parameters: how many numbers the model's parameters hold.
        selected: layers that the rules select.
        applied: layers that were replaced.
        ran: replaced layers that ran.
        trained: replaced layers of which every parameter got a gradient.
        refused: reasons for what was selected and not replaced, with counts.
        notes: what to know besides.
        seconds: how long all took.
        peak_mib: the most memory that the process held.
    """

    title: str
    steps: Sequence[Step] = ()
    parameters: int = 0
    selected: int = 0
    applied: int = 0
    ran: int = 0
    trained: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()
    seconds: float = 0.0
    peak_mib: int = 0

    @property
    def failures(self) -> list[str]:
        """What went wrong, a line for each step."""
        return [f"{step.name}: {step.reason}" for step in self.steps if step.outcome == "failed"]

    @property
    def verdict(self) -> str:
        """``"ok"``, or what failed."""
        failed = [step.name for step in self.steps if step.outcome == "failed"]
        return f"failed: {', '.join(failed)}" if failed else "ok"

    def outcome(self, name: str) -> Outcome | None:
        """Give how one step went; ``None`` if it was never reached."""
        return next((step.outcome for step in self.steps if step.name == name), None)

    def to_dict(self) -> dict[str, Any]:
        """Give the result as JSON has it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Result:
        """Read what :meth:`to_dict` gave."""
        steps = tuple(Step(**step) for step in given["steps"])
        return cls(**{**given, "steps": steps, "notes": tuple(given["notes"])})

    @classmethod
    def lost(cls, title: str, reason: str, seconds: float) -> Result:
        """Stand in for a check that didn't come to its end."""
        return cls(title, (Step("process", "failed", reason, seconds),), seconds=seconds)

"""What a plan or a report says of each module that the rules selected."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Applied:
    """A module or call that a rule changes.

    Args:
        path: dotted name of the module, or of the container and call.
        rule: name of the rule.
        action: what is done: ``"replace"``, ``"attach <mechanism>"``, ``"wrap"`` or ``"drop"``.
        reason: how it is done, in words.
    """

    path: str
    rule: str
    action: str
    reason: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """A module or call that a rule selected and that stays as it is.

    Args:
        path: dotted name of the module, or of the container and call.
        rule: name of the rule.
        action: what was asked for.
        reason: why it was not done, and what would help.
    """

    path: str
    rule: str
    action: str
    reason: str


Outcome = Applied | Skipped


class Outcomes:
    """The outcomes of a rule set on a model: the common part of a plan and a report."""

    def __init__(self, outcomes: Iterable[Outcome], warnings: Iterable[str] = ()):
        self.outcomes = tuple(outcomes)
        self.warnings = tuple(warnings)

    @property
    def applied(self) -> tuple[Applied, ...]:
        """What is, or would be, changed; in the order of the model's modules."""
        return tuple(outcome for outcome in self.outcomes if isinstance(outcome, Applied))

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """What the rules selected and left alone, each with the reason."""
        return tuple(outcome for outcome in self.outcomes if isinstance(outcome, Skipped))

    def to_dict(self) -> dict[str, object]:
        """Give the outcomes as values that JSON can hold."""
        return {
            "applied": [asdict(outcome) for outcome in self.applied],
            "skipped": [asdict(outcome) for outcome in self.skipped],
            "warnings": list(self.warnings),
        }

    def __str__(self) -> str:
        rows = [
            ("applied" if isinstance(outcome, Applied) else "skipped", *_cells(outcome))
            for outcome in self.outcomes
        ]
        lines = [f"{len(self.applied)} applied, {len(self.skipped)} skipped"]
        lines += _columns(("", "path", "rule", "action", "how or why"), rows) if rows else []
        lines += [f"warning: {warning}" for warning in self.warnings]
        return "\n".join(lines)


def _cells(outcome: Outcome) -> tuple[str, str, str, str]:
    return (outcome.path or "(the model)", outcome.rule, outcome.action, outcome.reason)


def _columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]

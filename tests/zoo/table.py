"""The results of many models as a table for the terminal and as a page of Markdown."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table

from .entry import SOURCES, left_out
from .result import Result

COLUMNS = {
    "identity equal": ("identity equal", "identity reverted"),
    "morph equal": ("morph equal", "finalized", "morph reverted"),
    "revert exact": ("reverted", "reverted outputs"),
    "save → load": ("saved and loaded",),
}
HEAD = (
    "model",
    "selected",
    "applied",
    "ran",
    "got gradients",
    *COLUMNS,
    "refused, and why",
)
LONGEST_REASON = 100
_MARKS = {"ok": "yes", "failed": "NO", "exempt": "exempt", "unavailable": "n/a"}


def row(result: Result) -> tuple[str, ...]:
    """Give one model's row."""
    counts = (result.selected, result.applied, result.ran, result.trained)
    return (
        result.title.partition("/")[2],
        *map(str, counts),
        *(_together(result, names) for names in COLUMNS.values()),
        reasons(result.refused),
    )


def _together(result: Result, names: Iterable[str]) -> str:
    """Give one mark for some steps: the first that isn't plainly well."""
    outcomes = [outcome for outcome in map(result.outcome, names) if outcome is not None]
    for each in ("failed", "unavailable", "exempt"):
        if each in outcomes:
            return _MARKS[each]
    return _MARKS["ok"] if outcomes else "-"


def reasons(refused: Mapping[str, int]) -> str:
    """Fold reasons to a short text, the most frequent one first."""
    short: Counter[str] = Counter()
    for reason, count in refused.items():
        short[_short(reason)] += count
    return "; ".join(f"{count} × {reason}" for reason, count in short.most_common())


def _short(reason: str) -> str:
    first = reason.split(": ")[0]
    return first if len(first) <= LONGEST_REASON else f"{first[: LONGEST_REASON - 1]}…"


def terminal_table(results: Iterable[Result]) -> Table:
    """Give the table for a terminal."""
    table = Table(*HEAD, box=box.SIMPLE_HEAD)
    for result in results:
        table.add_row(*row(result), style=None if result.verdict == "ok" else "red")
    return table


@dataclass(frozen=True)
class Summary:
    """Results of many models, counted."""

    models: int
    well: int
    selected: int
    applied: int
    ran: int
    trained: int
    refused: Mapping[str, int]
    failures: Mapping[str, Sequence[str]]
    exempt: Sequence[str]

    @classmethod
    def of(cls, results: Sequence[Result]) -> "Summary":
        """Count the results."""
        refused: Counter[str] = Counter()
        for result in results:
            refused.update({_short(reason): count for reason, count in result.refused.items()})
        return cls(
            models=len(results),
            well=sum(result.verdict == "ok" for result in results),
            selected=sum(result.selected for result in results),
            applied=sum(result.applied for result in results),
            ran=sum(result.ran for result in results),
            trained=sum(result.trained for result in results),
            refused=dict(refused.most_common()),
            failures={result.title: result.failures for result in results if result.failures},
            exempt=[
                f"{result.title}: {note}" for result in results for note in result.notes if "draws" in note
            ],
        )

    def lines(self) -> list[str]:
        """Give the counts in words."""
        return [
            f"{self.models} models, {self.well} without a finding, {len(self.failures)} with.",
            f"{self.selected} layers selected, {self.applied} replaced, "
            f"{self.selected - self.applied} refused with the reason; "
            f"{self.ran} ran and {self.trained} got gradients.",
        ]


def markdown(results: Sequence[Result], *, date: str, versions: Mapping[str, str]) -> str:
    """Give a page with the summary, every finding, and one table for each source."""
    summary = Summary.of(results)
    lines = [
        "# Models of other people, converted",
        "",
        f"{date}; {', '.join(f'{name} {version}' for name, version in versions.items())}. "
        "Written by `python -m tests.zoo --markdown`.",
        "",
        *summary.lines(),
        "",
        "## Findings",
        "",
        *(
            [f"- {title}: {_cell('; '.join(words))}" for title, words in summary.failures.items()]
            or ["None."]
        ),
        "",
        "## Exempt from equality of bits, because the original isn't equal to itself",
        "",
        *([f"- {line}" for line in summary.exempt] or ["None."]),
        "",
        "## Refused, and why",
        "",
        *([f"- {count} × {reason}" for reason, count in summary.refused.items()] or ["None."]),
    ]
    for source in SOURCES:
        own = [result for result in results if result.title.startswith(f"{source}/")]
        lines += _section(source, own) if own else []
    return "\n".join(lines) + "\n"


def _section(source: str, results: Sequence[Result]) -> list[str]:
    lines = ["", f"## {source}", ""]
    lines += ["| " + " | ".join(HEAD) + " |", "|" + " --- |" * len(HEAD)]
    lines += ["| " + " | ".join(map(_cell, row(result))) + " |" for result in results]
    outside = left_out(source)
    if outside:
        lines += ["", "Left out:", "", *(f"- {name}: {_cell(reason)}" for name, reason in outside.items())]
    return lines


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")

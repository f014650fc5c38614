"""What became of the weights while they were trained: numbers by step, weight and mechanism."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from bioconvert.plasticity.numbers import numbers_of
from bioconvert.plasticity.synapses import Synapses


class ScalarWriter(Protocol):
    """What TensorBoard's ``SummaryWriter`` and others write numbers with."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> object:
        """Write one number."""
        ...


@dataclass(frozen=True, slots=True)
class Note:
    """The numbers of one weight after one step.

    Args:
        step: number of steps that its optimizer had done.
        parameter: the weight's dotted name.
        numbers: the numbers by name; those of a mechanism begin with the mechanism's.
    """

    step: int
    parameter: str
    numbers: Mapping[str, float]


class History:
    """Numbers noted every so many steps of an optimizer.

    Those of every weight are the fraction of ``zero weights``, that of ``dead units`` (rows of the weight
    that are all zero) and the ``effective rank``, which is left out where both rows and columns are more
    than 2048. Mechanisms add their own.

    Args:
        every: number of steps from one note to the next; 0 for none at all.

    Example:
        >>> import torch, bioconvert as bc
        >>> from torch import nn
        >>> rules = {"version": 1, "rules": [{"match": {"type": "linear"}, "attach": ["fuzzy_lr"]}]}
        >>> model = bc.convert(nn.Linear(4, 2), rules)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> plasticity = bc.Plasticity(model, history=2).bind(optimizer)
        >>> for _ in range(4):
        ...     model(torch.ones(1, 4)).sum().backward()
        ...     optimizer.step()
        >>> [note.step for note in plasticity.history]
        [2, 4]
    """

    def __init__(self, *, every: int = 0):
        self.every = every
        self.notes: list[Note] = []

    def __iter__(self) -> Iterator[Note]:
        return iter(self.notes)

    def __len__(self) -> int:
        return len(self.notes)

    def is_due(self, step: int) -> bool:
        """Say whether a note is taken after so many steps."""
        return self.every > 0 and step % self.every == 0

    def note(self, step: int, synapses: Iterable[Synapses]) -> None:
        """Note the numbers of weights now."""
        self.notes += [Note(step, each.path, numbers_of(each)) for each in synapses]

    def write(self, writer: ScalarWriter, step: int | None = None) -> None:
        """Write what was noted last of each weight, as ``plasticity/<parameter>/<number>``.

        Args:
            writer: such as TensorBoard's ``SummaryWriter``.
            step: the step to write it under; ``None`` for the one at which it was noted.
        """
        for note in _last(self.notes):
            for name, value in note.numbers.items():
                at = note.step if step is None else step
                writer.add_scalar(f"plasticity/{note.parameter}/{name}", value, at)

    def to_dict(self) -> dict[str, Any]:
        """Give plain data, as JSON has it."""
        return {"every": self.every, "notes": [asdict(note) for note in self.notes]}

    def to_json(self) -> str:
        """Give JSON."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> History:
        """Give a history again that :meth:`to_dict` gave."""
        history = cls(every=data["every"])
        history.notes = [Note(**note) for note in data["notes"]]
        return history

    def __str__(self) -> str:
        if not self.notes:
            return "nothing noted" if self.every else "nothing noted: Plasticity(model, history=<steps>)"
        first, last = _first(self.notes), _last(self.notes)
        names = dict.fromkeys(name for note in last for name in note.numbers)
        title = f"{len(last)} weights, steps {self.notes[0].step}-{self.notes[-1].step}"
        lines = [_line(title, "first", "last", "least", "greatest"), "-" * _WIDTH]
        return "\n".join([*lines, *(_row(name, first, last) for name in names)])


_WIDTH = 79
_COLUMN = 10


def _row(name: str, first: list[Note], last: list[Note]) -> str:
    """Give the mean over the weights at their first and last notes, and the extremes of the latter."""
    start = [note.numbers[name] for note in first if name in note.numbers]
    end = [note.numbers[name] for note in last if name in note.numbers]
    shown = (_mean(start), _mean(end), min(end), max(end))
    return _line(name, *(f"{value:.4g}" for value in shown))


def _line(name: str, *columns: str) -> str:
    room = _WIDTH - _COLUMN * len(columns)
    shown = name if len(name) <= room else f"{name[: room - 1]}…"
    return f"{shown:<{room}}" + "".join(f"{column:>{_COLUMN}}" for column in columns)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def _last(notes: Iterable[Note]) -> list[Note]:
    return list({note.parameter: note for note in notes}.values())


def _first(notes: Iterable[Note]) -> list[Note]:
    found: dict[str, Note] = {}
    for note in notes:
        found.setdefault(note.parameter, note)
    return list(found.values())

"""A picture of how a model grew: its loss, its parameters and the life of each node over the steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from math import floor, log10
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from bioconvert.organism.control import KEY
from bioconvert.organism.lives import Event, Life, lives

if TYPE_CHECKING:
    import os

    from bioconvert.organism.organism import Organism

_WIDTH, _LEFT, _RIGHT = 960, 210, 24
_PANEL, _GAP, _BAR, _HEAD = 110, 34, 24, 74
_TICKS = 6
_CHARACTERS = 30
"""Of a node's name that fit beside its bar."""
_LEARNS, _CORE, _FROZEN, _LINE = "#2a9d5c", "#4878a8", "#c3ccd6", "#33506e"
_MARKS = {
    "birth": ("#1d7a45", "born"),
    "death": ("#c0392b", "pruned"),
    "freeze": ("#7a8aa0", "freezing changed"),
}
_FREEZES = ("unfreeze", "novel", "familiar")
_THOUSANDS = ((10**9, "G"), (10**6, "M"), (10**3, "k"))
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class _Scale:
    """Where a number lies on an axis: from ``low`` at ``start`` to ``high`` at ``end``."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return self.start + share * (self.end - self.start)


def count_parameters(model: nn.Module) -> int:
    """Count the numbers in a model's parameters."""
    return sum(p.numel() for p in model.parameters())


def write_timeline(organism: Organism, path: str | os.PathLike[str]) -> None:
    """Write the picture of an organism as SVG."""
    state = organism.record["control"].get(KEY, {})
    loss = [(point[0], point[1]) for point in state.get("curve", ())]
    counts = _counts(organism)
    found = lives(organism.status(), organism.history, organism.step)
    Path(path).write_text(drawn(found, organism.history, loss, counts), encoding="utf-8")


def drawn(
    found: Sequence[Life], history: Sequence[Event], loss: Sequence[Point], counts: Sequence[Point]
) -> str:
    """Draw a timeline.

    Args:
        found: the lives of the nodes.
        history: the events.
        loss: points of step and loss; without any, no curve is drawn.
        counts: points of step and number of parameters, the last one of today.
    """
    last = max([1.0, *(x for x, _ in (*loss, *counts))])
    x = _Scale(0, last, _LEFT, _WIDTH - _RIGHT)
    parts: list[str] = []
    top = _HEAD
    if loss:
        parts += _panel("loss", "mean between decisions", loss, x, top, floor_at=min(y for _, y in loss))
        top += _PANEL + _GAP
    parts += _panel("parameters", "of the whole model", _stairs(counts), x, top, floor_at=0.0)
    top += _PANEL + _GAP
    bars, bottom = list(_bars(found, x, top, last)), top + 14 + _BAR * len(found)
    marks = list(_marks(history, x, _HEAD, bottom))
    height = bottom + 84
    head = _head(history, counts, last)
    return "\n".join(
        [
            *_opening(height),
            *head,
            *marks,
            *parts,
            *bars,
            *_axis(x, bottom),
            *_legend(bottom + 62),
            "</svg>\n",
        ]
    )


def _counts(organism: Organism) -> list[Point]:
    told = [(event["step"], event["parameters"]) for event in organism.history if "parameters" in event]
    return [(0, organism.record["parameters"]), *told, (organism.step, count_parameters(organism.model))]


def _opening(height: float) -> list[str]:
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" width="{_WIDTH}" '
        f'height="{height:.0f}" font-family="Helvetica, Arial, sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]


def _head(history: Sequence[Event], counts: Sequence[Point], last: float) -> list[str]:
    births, deaths = (sum(event["event"] == kind for event in history) for kind in ("birth", "death"))
    said = (
        f"{last:,.0f} steps · {_plural(births, 'branch', 'branches')} born, {deaths} pruned · "
        f"{counts[0][1]:,.0f} parameters at first, {counts[-1][1]:,.0f} now"
    )
    return [
        _text(20, 30, "How the model grew", size=20, weight="bold"),
        _text(20, 52, said, color="#555"),
    ]


def _panel(
    title: str, said: str, points: Sequence[Point], x: _Scale, top: float, *, floor_at: float
) -> Iterator[str]:
    """Draw one curve with its numbers."""
    high = max(y for _, y in points)
    y = _Scale(floor_at, high if high > floor_at else floor_at + 1.0, top + _PANEL, top)
    yield _text(20, top + 14, title, weight="bold")
    yield _text(20, top + 30, said, color="#777")
    for value in (y.low, (y.low + y.high) / 2, y.high):
        yield f'<path d="M{x.start} {y(value):.1f}H{x.end}" stroke="#e3e6ea"/>'
        yield _text(x.start - 8, y(value) + 4, _number(value), anchor="end", color="#555")
    line = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in points)
    yield f'<polyline points="{line}" fill="none" stroke="{_LINE}" stroke-width="1.8"/>'


def _stairs(points: Sequence[Point]) -> list[Point]:
    """Let a number stay what it is until it changes."""
    stairs = [points[0]]
    for step, value in points[1:]:
        stairs += [(step, stairs[-1][1]), (step, value)]
    return stairs


def _bars(found: Sequence[Life], x: _Scale, top: float, last: float) -> Iterator[str]:
    yield _text(20, top, "nodes", weight="bold")
    for row, life in enumerate(found):
        y = top + 10 + row * _BAR
        yield _text(_LEFT - 12, y + 13, _label(life), anchor="end", color="#222", title=life.name)
        end = last if life.died is None else life.died
        color = _LEARNS if life.grown else _CORE
        yield _bar(x(life.born), x(end), y, color, f"{life.name}, tag {life.tag}")
        for start, stop in life.frozen:
            until = end if stop is None else min(stop, end)
            yield _bar(x(start), x(until), y, _FROZEN, f"{life.name}: frozen from step {start}")
        if life.died is not None:
            yield _text(x(end) + 4, y + 14, "✕", color=_MARKS["death"][0], title=f"pruned at step {end}")
        for step, kind in life.events:
            yield _diamond(x(step), y + 9, f"step {step}: {kind}")


def _marks(history: Sequence[Event], x: _Scale, top: float, bottom: float) -> Iterator[str]:
    """Draw a line through all panels where something happened; births and deaths before freezing."""
    drawn_at: set[int] = set()
    for kind in ("birth", "death", "freeze"):
        same = (kind, *_FREEZES) if kind == "freeze" else (kind,)
        for step in sorted({event["step"] for event in history if event["event"] in same} - drawn_at):
            drawn_at.add(step)
            dash = ' stroke-dasharray="2 4"' if kind == "freeze" else ""
            yield (
                f'<path d="M{x(step):.1f} {top}V{bottom}" stroke="{_MARKS[kind][0]}" '
                f'stroke-opacity="0.55"{dash}><title>{_MARKS[kind][1]} at step {step}</title></path>'
            )


def _axis(x: _Scale, y: float) -> Iterator[str]:
    yield f'<path d="M{x.start} {y}H{x.end}" stroke="#888"/>'
    for value in _ticks(x.high):
        yield f'<path d="M{x(value):.1f} {y}v5" stroke="#888"/>'
        yield _text(x(value), y + 18, f"{value:,.0f}", anchor="middle", color="#555")
    yield _text((x.start + x.end) / 2, y + 36, "optimizer steps", anchor="middle", color="#555")


def _legend(y: float) -> Iterator[str]:
    at = 20
    for color, said in ((_CORE, "block of the model"), (_LEARNS, "branch that grew"), (_FROZEN, "frozen")):
        yield _bar(at, at + 22, y - 10, color, said, height=12)
        yield _text(at + 28, y, said, color="#333")
        at += 50 + 7 * len(said)
    for color, said in _MARKS.values():
        yield f'<path d="M{at + 6} {y - 12}v15" stroke="{color}" stroke-width="2"/>'
        yield _text(at + 14, y, said, color="#333")
        at += 36 + 7 * len(said)


def _bar(start: float, end: float, y: float, color: str, title: str, height: float = 18) -> str:
    return (
        f'<rect x="{start:.1f}" y="{y:.1f}" width="{max(end - start, 1.5):.1f}" height="{height}" rx="3" '
        f'fill="{color}"><title>{escape(title)}</title></rect>'
    )


def _diamond(x: float, y: float, title: str) -> str:
    return (
        f'<path d="M{x:.1f} {y - 6:.1f}l6 6l-6 6l-6 -6z" fill="#f2b134" stroke="white">'
        f"<title>{escape(title)}</title></path>"
    )


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    color: str = "#111",
    size: int = 12,
    weight: str = "normal",
    title: str = "",
) -> str:
    tip = f"<title>{escape(title)}</title>" if title else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}" font-size="{size}" '
        f'font-weight="{weight}">{escape(_plain(text))}{tip}</text>'
    )


def _label(life: Life) -> str:
    text = f"{'└ ' if life.grown else ''}{life.name} ({life.tag})"
    return text if len(text) <= _CHARACTERS else f"…{text[1 - _CHARACTERS :]}"


def _plain(text: str) -> str:
    """Leave out what XML doesn't have."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _ticks(last: float) -> list[float]:
    """Give round numbers from zero on."""
    rough = last / _TICKS
    unit = 10.0 ** floor(log10(rough))
    step = max(1.0, next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough))
    return [step * i for i in range(int(last / step) + 1)]


def _number(value: float) -> str:
    for unit, letter in _THOUSANDS:
        if abs(value) >= unit:
            return f"{value / unit:.3g} {letter}"
    return f"{value:.3g}"


def _plural(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"

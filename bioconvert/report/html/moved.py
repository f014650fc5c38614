"""How far the outputs moved, layer by layer and end to end."""

from __future__ import annotations

from dataclasses import dataclass

from bioconvert.report.drift import Entry
from bioconvert.report.html.evidence import Drifted
from bioconvert.report.text import short

ROWS = 150
"""Layers at most: those whose output moved most."""


@dataclass(frozen=True, slots=True)
class Moved:
    """The difference between two outputs; see :class:`bioconvert.surgery.drift.Difference`.

    Args:
        path: dotted name of the layer; empty for the model's own output.
        max_abs: largest absolute difference.
        relative: norm of the difference over the norm of the original's output.
        cosine: cosine of the angle between the two.
    """

    path: str
    max_abs: float
    relative: float
    cosine: float


@dataclass(frozen=True, slots=True)
class Movement:
    """How far outputs moved.

    Args:
        layers: one for each replaced layer, in the order of the model.
        output: that of the model's own output.
        inputs: on what, in words.
        left_out: layers that are not shown.
    """

    layers: tuple[Moved, ...]
    output: Moved
    inputs: str
    left_out: int


def movement_of(drifted: Drifted) -> Movement:
    """Give the differences as they were measured."""
    places = sorted(range(len(drifted.layers)), key=lambda at: -drifted.layers[at].relative)[:ROWS]
    kept = [drifted.layers[at] for at in sorted(places)]
    return Movement(
        tuple(map(_moved, kept)),
        _moved(drifted.output),
        short(drifted.inputs),
        len(drifted.layers) - len(kept),
    )


def _moved(entry: Entry) -> Moved:
    return Moved(short(entry.path), entry.max_abs, entry.relative, entry.cosine)

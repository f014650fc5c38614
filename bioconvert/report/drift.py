"""How far the outputs moved, layer by layer and end to end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from rich.console import RenderableType
from rich.text import Text

from bioconvert.report.tables import left_out, plain_table
from bioconvert.report.text import measure, short

_SHOWN = 30
"""Layers without ``--all``."""


class Entry(Protocol):
    """The difference between two outputs of one layer, or of the whole model."""

    @property
    def path(self) -> str:
        """Dotted name of the layer."""

    @property
    def max_abs(self) -> float:
        """Largest absolute difference."""

    @property
    def relative(self) -> float:
        """Norm of the difference over the norm of the original's output."""

    @property
    def cosine(self) -> float:
        """Cosine of the angle between the two."""


def drift_tables(layers: Sequence[Entry], output: Entry, *, every: bool = False) -> Iterator[RenderableType]:
    """Show the drift of each layer in the model's order, and last that of the model's output."""
    table = plain_table()
    table.add_column("layer", overflow="fold", style="cyan")
    for title in ("relative", "cosine", "largest"):
        table.add_column(title, justify="right", no_wrap=True)
    shown = layers if every else layers[:_SHOWN]
    for entry in shown:
        table.add_row(Text(short(entry.path)), *_numbers(entry))
    table.add_section()
    table.add_row(Text("the model's output"), *_numbers(output), style="bold")
    yield table
    if len(shown) < len(layers):
        yield left_out(len(layers) - len(shown), "layer")


def drift_line(output: Entry) -> str:
    """Say the drift of the model's output in one line."""
    relative, cosine, largest = _numbers(output)
    return f"drift of the output: {relative} relative, cosine {cosine}, at most {largest}"


def _numbers(entry: Entry) -> tuple[str, str, str]:
    return measure(entry.relative), f"{entry.cosine:.5f}", measure(entry.max_abs)

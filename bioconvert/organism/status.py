"""The state of an organism as text, for ``print``: a line for each node, within 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bioconvert.organism.record import Record
from bioconvert.organism.seats import Seat, own_parameters

_LINE, _TAG, _NAME = 80, 14, 12
"""Characters of a line and of a tag at most, and of a node's name at least."""
_COLUMNS = ("node", "tag", "age", "parameters", "gate", "state")


def status_row(seat: Seat, step: int) -> Record:
    """Say of a node what it is and how it does at a step."""
    record, branch = seat.node.node_record, seat.branch
    return {
        "id": record["id"],
        "tag": record["tag"],
        "path": seat.path,
        "of": record["of"],
        "age": step - record["born"],
        "parameters": sum(p.numel() for p in own_parameters(seat).values()),
        "gate": None if branch is None or branch.gate.is_meta else branch.gate.item(),
        "active": record["active"],
        "frozen": record["frozen"] is not None,
        "dying": record["dying"],
        "immortal": record["immortal"],
    }


def status_text(rows: Iterable[Mapping[str, Any]], step: int) -> str:
    """Write the rows of :meth:`Organism.status` as a table.

    Args:
        rows: the rows.
        step: the step they are of.
    """
    rows = list(rows)
    told = [_COLUMNS, *(status_cells(row) for row in rows)]
    widths = [max(len(row[place]) for row in told) for place in range(len(_COLUMNS))]
    widths[0] = min(widths[0], max(_NAME, _LINE - sum(widths[1:]) - 2 * (len(widths) - 1)))
    cells = [(_cut(row[0], widths[0]), *row[1:]) for row in told]
    lines = ["  ".join(_aligned(row, widths)).rstrip() for row in cells]
    return "\n".join([*lines, summary(rows, step)])


def status_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Say of one node its name, its tag, age, parameters, gate and state."""
    name = row["id"] if row["of"] is None else f"└ {row['id']}"
    gate = "" if row["gate"] is None else f"{row['gate']:+.3f}"
    return (
        _shown(name),
        _cut(_shown(row["tag"]), _TAG),
        f"{row['age']:,}",
        f"{row['parameters']:,}",
        gate,
        state_of(row),
    )


def state_of(row: Mapping[str, Any]) -> str:
    """Say in words what a node does."""
    words = ["frozen" if row["frozen"] else "learns"]
    words += [said for name, said in (("dying", "dying"), ("immortal", "immortal")) if row[name]]
    return ", ".join(words if row["active"] else [*words, "idle"])


def summary(rows: Iterable[Mapping[str, Any]], step: int) -> str:
    """Say how many nodes and branches there are at a step, and how many parameters they have."""
    rows = list(rows)
    branches = sum(row["of"] is not None for row in rows)
    total = sum(row["parameters"] for row in rows)
    nodes = f"{len(rows)} node{'' if len(rows) == 1 else 's'}"
    return f"step {step:,}: {nodes}, of which branches: {branches}; parameters in nodes: {total:,}"


def _aligned(row: tuple[str, ...], widths: list[int]) -> list[str]:
    """Put numbers to the right."""
    return [
        cell.rjust(width) if 2 <= place <= 4 else cell.ljust(width)
        for place, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]


def _cut(text: str, width: int) -> str:
    """Keep the end of a name, which tells it from others."""
    return text if len(text) <= width else f"…{text[1 - width :]}"


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)

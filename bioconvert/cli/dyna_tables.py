"""What ``bioconvert import dyna`` shows: layers, what was assumed, and what they compute otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from bioconvert.report.fold import fold
from bioconvert.report.tables import plain_table
from bioconvert.report.text import one_line, short

if TYPE_CHECKING:
    from bioconvert.compat.dyna import Layer

_SIZES = {
    "context_length": "context",
    "rank": "rank",
    "n_subspaces": "subspaces",
    "rank_subspace": "rank",
    "rank_transformations": "points",
}
_WINDOW = ("stride", "padding", "dilation", "transpose", "output_padding")


def layer_table(layers: Iterable[Layer]) -> Table:
    """Show what the layers became, those alike in one row."""
    table = plain_table()
    for title in ("layer", "becomes", "sizes"):
        table.add_column(title, overflow="fold")
    _add_rows(table, layers, lambda layer: (layer.becomes, _sizes(layer)))
    return table


def assumed_table(layers: Iterable[Layer]) -> Table:
    """Show the arguments of the layers that nobody told."""
    table = plain_table(header=False)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    _add_rows(table, (layer for layer in layers if layer.assumed), lambda layer: (_assumed(layer),))
    return table


def differences_table(differences: Iterable[str]) -> Table:
    """Show what the layers compute otherwise."""
    table = plain_table(header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for difference in differences:
        table.add_row("-", Text(difference))
    return table


def _add_rows(table: Table, layers: Iterable[Layer], cells_of: Callable[[Layer], tuple[str, ...]]) -> None:
    groups: dict[tuple[str, ...], list[str]] = {}
    for layer in layers:
        groups.setdefault(cells_of(layer), []).append(layer.path or "(the model itself)")
    for cells, paths in groups.items():
        for folded in fold(paths):
            table.add_row(short(folded.text), *(Text(one_line(cell)) for cell in cells))


def _sizes(layer: Layer) -> str:
    given = layer.arguments
    if "rows" in given:
        first = [f"{given['rows']}×{given['cols']}"]
    else:
        first = [f"{given['in_channels']} → {given['out_channels']}", _by(given["kernel_size"])]
        told = {"padding_dynamic", *layer.assumed}
        first += [f"{name} {_plain(given[name])}" for name in _WINDOW if name in given and name not in told]
    return ", ".join([*first, *(f"{label} {given[name]}" for name, label in _SIZES.items() if name in given)])


def _assumed(layer: Layer) -> str:
    return ", ".join(f"{name} {_plain(layer.arguments[name])}" for name in layer.assumed)


def _by(size: Any) -> str:
    return f"{size}×{size}" if isinstance(size, int) else "×".join(map(str, size))


def _plain(value: Any) -> str:
    """Write a number, one for all where they are the same, or a choice."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return str(value[0]) if len(set(value)) == 1 else "×".join(map(str, value))
    return str(value)

"""Numbers → the geometry of small SVG pictures; what is around them stands in the templates."""

from __future__ import annotations

from collections.abc import Sequence

from bioconvert.report.html.heat_map import HeatMap

WIDTH, HEIGHT = 240, 70
"""Of a histogram."""
CELL, ROW = 12, 14
"""Width and height of a cell of a heat map."""
COLORS = (
    "#1f3b6e",
    "#2a5a8f",
    "#2f7a9e",
    "#3a99a0",
    "#57b594",
    "#8acb7f",
    "#c2dc6e",
    "#f2e76b",
)
"""From little to much; their lightness grows, so that they can be told apart without colour."""


def outline(shares: Sequence[float], peak: float) -> str:
    """Give the path of a histogram: shares of ``peak``, filled down to the base line."""
    width = WIDTH / len(shares)
    steps = [f"V{HEIGHT - HEIGHT * share / peak:.1f}h{width:.2f}" for share in shares]
    return f"M0 {HEIGHT}{''.join(steps)}V{HEIGHT}z"


def peak_of(*histograms: Sequence[float] | None) -> float:
    """Give the greatest share of some histograms; 1 where all are empty."""
    return max((share for shares in histograms if shares for share in shares), default=0.0) or 1.0


def cells(strip: str, kind: str) -> str:
    """Give the path of all cells of one kind in a strip, one unit wide each."""
    parts, at = [], 0
    while at < len(strip):
        end = at
        while end < len(strip) and strip[end] == strip[at]:
            end += 1
        if strip[at] == kind:
            parts.append(f"M{at} 0h{end - at}v10h-{end - at}z")
        at = end
    return "".join(parts)


def heat_paths(heat_map: HeatMap) -> list[tuple[str, str]]:
    """Give the cells of a heat map: each colour with the path of all its cells."""
    paths: dict[str, list[str]] = {}
    for row, values in enumerate(heat_map.values):
        colors = [_color(value, heat_map) for value in values]
        at = 0
        while at < len(colors):
            end = at
            while end < len(colors) and colors[end] == colors[at]:
                end += 1
            width = (end - at) * CELL
            if colors[at]:
                paths.setdefault(colors[at], []).append(
                    f"M{at * CELL} {row * ROW}h{width}v{ROW - 1}h-{width}z"
                )
            at = end
    return [(color, "".join(paths[color])) for color in COLORS if color in paths]


def _color(value: float | None, heat_map: HeatMap) -> str:
    if value is None:
        return ""
    span = heat_map.high - heat_map.low
    share = (value - heat_map.low) / span if span > 0 else 0.0
    return COLORS[min(int(share * len(COLORS)), len(COLORS) - 1)]

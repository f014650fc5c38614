"""Names and problems of many layers, in few words."""

from __future__ import annotations

from collections.abc import Iterable

_SHOWN = 8
_LONGEST = 200
ITSELF = "the model itself"
"""What a layer without a path is called."""


def listed(names: Iterable[str]) -> str:
    """Name the first few, and say how many more there are."""
    ordered = list(names)
    more = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return ", ".join(name[:_LONGEST] for name in ordered[:_SHOWN]) + more


def by_problem(found: Iterable[tuple[str, str]]) -> list[str]:
    """Write problems, each a line, with all the layers that have it.

    Args:
        found: path of a layer and what is wrong with it.
    """
    paths: dict[str, list[str]] = {}
    for path, problem in found:
        paths.setdefault(problem, []).append(path or ITSELF)
    return [f"{listed(names)}: {problem}" for problem, names in paths.items()]

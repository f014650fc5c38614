"""Reasons that name a module's own container, made alike for modules that fare alike."""

from __future__ import annotations

from collections.abc import Iterable

from bioconvert.report.fold import fold

_HOLE = "\0"
_SHOWN = 3


def without_container(path: str, reason: str) -> tuple[str, str]:
    """Take the name of the module or of a container of it out of a reason.

    Returns:
        The reason with a hole, and the name; the reason as it is and an empty name where it has none.
    """
    parts = path.split(".")
    for depth in range(len(parts), 0, -1):
        container = ".".join(parts[:depth])
        if f"'{container}'" in reason:
            return reason.replace(f"'{container}'", f"'{_HOLE}'"), container
    return reason, ""


def with_containers(reason: str, containers: Iterable[str]) -> str:
    """Fill the hole of a reason with some names, folded; of many unlike ones, the first."""
    names = [folded.text for folded in fold(containers)]
    more = ["…"] if len(names) > _SHOWN else []
    return reason.replace(_HOLE, ", ".join(names[:_SHOWN] + more))

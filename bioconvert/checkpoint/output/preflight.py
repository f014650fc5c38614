"""Whether memory and disk space suffice, found out before the first byte is read or written."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bioconvert.core.errors import ResourceError
from bioconvert.core.sizes import size

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True, order=True)
class Limit:
    """An amount of memory that can still be had.

    Args:
        free: bytes.
        of: what sets this limit.
    """

    free: int
    of: str


def check_space(place: Path, need: int) -> None:
    """Check that a file system has room.

    Args:
        place: a path on it, whether it exists yet or not.
        need: bytes to be written.

    Raises:
        ResourceError: there is less.
    """
    there = next(path for path in (place, *place.absolute().parents) if path.exists())
    found = os.statvfs(there)
    free = found.f_bavail * found.f_frsize
    if need > free:
        raise ResourceError(
            f"{place}: {size(need)} are to be written, but only {size(free)} of disk space are free; "
            "make room, or write elsewhere"
        )


def check_memory(need: int, advice: str = "convert with --stream, which reads one tensor at a time") -> None:
    """Check that a process may take more memory.

    Args:
        need: bytes that it will take beside those it has.
        advice: what to do where there is less.

    Raises:
        ResourceError: there is less.
    """
    limit = memory_limit()
    if limit is not None and need > limit.free:
        raise ResourceError(
            f"about {size(need)} of memory are needed, but only {size(limit.free)} are free "
            f"({limit.of}); {advice}"
        )


def memory_limit() -> Limit | None:
    """Give the smallest amount of memory that the machine, a control group or the process's own limits leave.

    ``None`` where the system doesn't tell.
    """
    return min((*_of_machine(), *_of_groups(), *_of_process()), default=None)


def _of_machine() -> Iterator[Limit]:
    for line in _lines(_PROC / "meminfo"):
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            yield Limit(int(value.split()[0]) << 10, "of the machine")


def _of_groups() -> Iterator[Limit]:
    for line in _lines(_PROC / "self" / "cgroup"):
        number, controllers, path = line.split(":", 2)
        if number == "0":
            yield from _of_group(_CGROUPS, path, ("memory.max", "memory.current"))
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
            yield from _of_group(_CGROUPS / "memory", path, names)


def _of_group(root: Path, path: str, names: tuple[str, str]) -> Iterator[Limit]:
    """Give the limits of a control group and of all above it."""
    folder = root / path.lstrip("/")
    while True:
        limit, used = (_number(folder / name) for name in names)
        if limit is not None and used is not None:
            yield Limit(max(limit - used + _reclaimable(folder), 0), "of the control group or container")
        if folder == root:
            return
        folder = folder.parent


def _reclaimable(folder: Path) -> int:
    """Give the bytes of a group that are copies of files, which the system takes back when it needs them."""
    stat = dict(line.split() for line in _lines(folder / "memory.stat"))
    return int(stat.get("inactive_file", 0)) + int(stat.get("active_file", 0))


def _of_process() -> Iterator[Limit]:
    fields = _lines(_PROC / "self" / "statm")
    if not fields:
        return
    pages = [int(field) for field in fields[0].split()]
    for kind, used, name in (
        (resource.RLIMIT_AS, pages[0], "ulimit -v"),
        (resource.RLIMIT_DATA, pages[5], "ulimit -d"),
    ):
        limit = resource.getrlimit(kind)[0]
        if limit != resource.RLIM_INFINITY:
            yield Limit(max(limit - used * resource.getpagesize(), 0), f"of the process, by {name}")


def _number(path: Path) -> int | None:
    lines = _lines(path)
    return int(lines[0]) if lines and lines[0].isdecimal() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []

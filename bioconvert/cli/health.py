"""What ``bioconvert doctor`` looks at: one function a matter, each giving findings."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path

from bioconvert.cli.defaults import FILE, Defaults
from bioconvert.core.errors import first_line
from bioconvert.core.registry import GROUP
from bioconvert.report.text import plural, size
from bioconvert.version import __version__

LITTLE = 1 << 30
"""Bytes of disk or memory below which a warning is given: an average model and its conversion."""
_NEEDED = ("torch", "safetensors", "typer", "rich", "pydantic", "pyyaml", "regex", "jinja2", "numpy")
_OPTIONAL = ("torchvision", "timm", "transformers", "lightning", "onnx", "onnxscript", "scikit-learn")
_OLDEST = {"torch": (2, 10)}
"""Older ones have known holes in reading pickles."""
_LEFTOVERS = ".*.bioconvert-partial"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Args:
        group: what it belongs to: ``"versions"``, ``"plugins"``, ``"machine"``, ``"folder"``, ``"settings"``.
        name: what was looked at.
        ok: whether it is as it should be.
        value: how it is.
        advice: what to do about it; empty where it is all right.
    """

    group: str
    name: str
    ok: bool
    value: str
    advice: str = ""


def installed() -> Iterator[Finding]:
    """Look at the versions of what is installed, from its metadata alone."""
    yield Finding("versions", "bioconvert", True, __version__)
    yield Finding("versions", "python", True, platform.python_version())
    for name in (*_NEEDED, *_OPTIONAL):
        found = _version(name)
        if found is None:
            if name in _NEEDED:
                yield Finding("versions", name, False, "not installed", f"pip install {name}")
            continue
        oldest = _OLDEST.get(name)
        old = oldest is not None and _numbers(found) < oldest
        advice = f"pip install --upgrade {name}: at least {'.'.join(map(str, oldest or ()))} is needed"
        yield Finding("versions", name, not old, found, advice if old else "")


def plugins() -> Iterator[Finding]:
    """Load every module that registers layers, mechanisms or nodes."""
    for entry_point in sorted(entry_points(group=GROUP), key=lambda each: each.name):
        try:
            entry_point.load()
        except Exception as error:  # noqa: BLE001 - whatever a plugin does wrong, it is what is looked for
            told = f"{entry_point.value} fails: {type(error).__name__}: {first_line(error)}"
            yield Finding("plugins", entry_point.name, False, told, "update or remove the package it is from")
        else:
            yield Finding("plugins", entry_point.name, True, f"{entry_point.value} loaded")


def machine() -> Iterator[Finding]:
    """Look at processors, memory and devices."""
    from bioconvert.checkpoint.output.preflight import memory_limit

    usable, present = len(os.sched_getaffinity(0)), os.cpu_count() or 1
    yield Finding("machine", "processors", True, f"{usable} of {present} usable")
    limit = memory_limit()
    if limit is not None:
        yield _room("machine", "memory", limit.free, f"{size(limit.free)} free ({limit.of})")
    yield from _devices()


def folder(place: Path) -> Iterator[Finding]:
    """Look at the folder to write to, and at the one for temporary files."""
    yield _room("folder", "disk", shutil.disk_usage(place).free, "")
    temporary = Path(tempfile.gettempdir())
    yield _room("folder", f"temporary files, {temporary}", shutil.disk_usage(temporary).free, "")
    if not os.access(place, os.W_OK | os.X_OK):
        yield Finding(
            "folder", "writing", False, "not allowed", "write to another folder, or change its mode"
        )
        return
    yield from _abilities(place)
    yield from _leftovers(place)


def settings(defaults: Defaults) -> Finding:
    """Say where the defaults of options come from."""
    if defaults.path is None:
        return Finding("settings", FILE, True, "none speaks of bioconvert: options have their own defaults")
    return Finding("settings", FILE, True, f"{defaults.path}: {', '.join(defaults.names()) or 'nothing set'}")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _numbers(found: str) -> tuple[int, ...]:
    return tuple(int(part) for part in found.split("+")[0].split(".")[:2] if part.isdecimal())


def _room(group: str, name: str, free: int, told: str) -> Finding:
    little = free < LITTLE
    advice = f"less than {size(LITTLE)}: make room before converting larger models" if little else ""
    return Finding(group, name, not little, told or f"{size(free)} free", advice)


def _devices() -> Iterator[Finding]:
    try:
        import torch
    except Exception as error:  # noqa: BLE001 - a broken installation may fail in any way
        told = f"can't be imported: {type(error).__name__}: {first_line(error)}"
        yield Finding("machine", "torch", False, told, "install torch again")
        return
    yield Finding("machine", "threads of torch", True, str(torch.get_num_threads()))
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    yield Finding("machine", "devices", True, ", ".join(["cpu", *names]))


def _abilities(place: Path) -> Iterator[Finding]:
    with tempfile.TemporaryDirectory(prefix=".bioconvert-doctor-", dir=place) as made:
        probes: tuple[tuple[str, Callable[[Path], bool], str], ...] = (
            (
                "exchange of folders in one step",
                _exchanges,
                "while a folder is replaced there is an instant without it; write to a local file system",
            ),
            ("locks", _locks, "let no other process write to the same folder"),
        )
        for name, probe, advice in probes:
            works = probe(Path(made))
            yield Finding(
                "folder", name, works, "works" if works else "doesn't work", "" if works else advice
            )


def _exchanges(place: Path) -> bool:
    from bioconvert.checkpoint.output.publishing import exchange

    one, other = place / "one", place / "other"
    one.mkdir()
    other.mkdir()
    return exchange(one, other)


def _locks(place: Path) -> bool:
    with (place / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def _leftovers(place: Path) -> Iterator[Finding]:
    from bioconvert.checkpoint.output.staging import Staging

    for found in sorted(place.glob(_LEFTOVERS)):
        target = place / found.name.removeprefix(".").removesuffix(".bioconvert-partial")
        staging = Staging(target)
        recorded = staging.leftover()
        if staging.is_busy:
            yield Finding("folder", found.name, True, f"a process is writing {target}")
        elif recorded is None:
            told = f"left by an interrupted conversion to {target}, with nothing to go on from"
            yield Finding("folder", found.name, False, told, "the next one there removes it; or remove it")
        else:
            told = f"an unfinished conversion to {target}, {plural(len(recorded.files), 'finished file')}"
            advice = f"continue it by: bioconvert resume {target}; or remove the folder"
            yield Finding("folder", found.name, False, told, advice)

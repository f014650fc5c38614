"""Where a converted model came from: for the record, and for reverting to the same names."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

from bioconvert.checkpoint.folders.manifest import Source
from bioconvert.checkpoint.formats.layout import MANIFEST, Layout, locate
from bioconvert.checkpoint.formats.prefix import PREFIXES
from bioconvert.checkpoint.formats.reading import Checkpoint
from bioconvert.checkpoint.formats.stored import find_tensors

Origin = Checkpoint | str | os.PathLike[str]


def source_of(origin: Origin, names: Collection[str]) -> Source:
    """Describe what was converted, but for its hash.

    Args:
        origin: the checkpoint, or its path.
        names: names of the model's tensors.
    """
    given = origin if isinstance(origin, Checkpoint) else None
    layout = locate(path_of(origin), unsafe_pickle=given is not None)
    prefix, stripped, nesting = _read_off(layout) if given is None else _known(given)
    put_back = fitting_prefix(prefix, stripped, names)
    return Source(
        # A manifest is JSON, which can't hold the bytes of a name that isn't UTF-8.
        name=layout.path.resolve().name.encode("utf-8", "backslashreplace").decode(),
        format=layout.format,
        sha256="",
        nesting=nesting,
        prefix=prefix.removesuffix(put_back),
    )


def files_of(origin: Origin) -> tuple[Path, ...]:
    """Give the files whose hash stands for what was converted; of a folder of ours its manifest."""
    layout = locate(path_of(origin), unsafe_pickle=isinstance(origin, Checkpoint))
    return (layout.path / MANIFEST,) if layout.format == "bioconvert" else layout.files


def path_of(origin: Origin) -> Path:
    """Give the path of a checkpoint."""
    return origin.source if isinstance(origin, Checkpoint) else Path(origin)


def fitting_prefix(prefix: str, names: Iterable[str], model_names: Collection[str]) -> str:
    """Say how much of a prefix that was taken off belongs to the model's own names.

    Args:
        prefix: what had stood before every name.
        names: the names without it.
        model_names: the model's names.

    Returns:
        The shortest end of the prefix with which every name is one of the model's; empty where there is none.
    """
    stripped = list(names)
    for end in _ends(prefix):
        if all(end + name in model_names for name in stripped):
            return end
    return ""


def _ends(prefix: str) -> list[str]:
    """Give the ends of a prefix that consist of whole parts, the shortest first."""
    ends = [""]
    rest = prefix
    while rest:
        part = next(part for part in PREFIXES if rest.endswith(part))
        rest = rest.removesuffix(part)
        ends.append(prefix[len(rest) :])
    return ends


def _known(checkpoint: Checkpoint) -> tuple[str, list[str], tuple[str, ...]]:
    return checkpoint.prefix, list(checkpoint.tensors), checkpoint.nesting


def _read_off(layout: Layout) -> tuple[str, list[str], tuple[str, ...]]:
    """Read prefix, names and nesting off a file; from its header alone where it has one."""
    if layout.format in {"bioconvert", "huggingface"}:
        return "", [], ()
    found = find_tensors(layout.path)
    return found.prefix, list(found.tensors), found.nesting

"""What a checkpoint holds, read from headers and the manifest where there are any."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bioconvert.cli.source import Reading
from bioconvert.report.summary import PARAMETER, Line
from bioconvert.report.tree import TensorLine

if TYPE_CHECKING:
    from bioconvert.checkpoint.folders.manifest import Manifest
    from bioconvert.checkpoint.formats.layout import Layout

_AS_USUAL = Reading()


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a manifest says of how its folder came about.

    Args:
        source: name of the file or folder that was converted, if it came from one.
        architecture: what the model is built from, if that is known.
        rules: names of the rule sets.
        changes: how many modules of which class became what.
        tool: the versions that wrote it.
    """

    source: str | None
    architecture: str | None
    rules: tuple[str, ...]
    changes: tuple[Line, ...]
    tool: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Contents:
    """What a checkpoint holds.

    Args:
        path: what was given.
        format: how it is laid out.
        files: names of the files with tensors in them.
        tensors: every tensor.
        size: bytes that the tensors take.
        conversion: what was converted, in a folder of ours.
        non_finite: how many values of which tensors are NaN or infinite, where a manifest tells.
    """

    path: Path
    format: str
    files: tuple[str, ...]
    tensors: tuple[TensorLine, ...]
    size: int
    conversion: Conversion | None = None
    non_finite: Mapping[str, int] | None = None

    @property
    def values(self) -> int:
        """Number of values in all tensors; a header doesn't tell parameters from buffers."""
        return sum(prod(line.shape) for line in self.tensors)

    @property
    def dtypes(self) -> Mapping[str, int]:
        """Number of tensors of each data type, the most frequent first."""
        return dict(Counter(line.dtype for line in self.tensors).most_common())


def read_contents(path: Path, reading: Reading = _AS_USUAL) -> Contents:
    """Read the names, types and shapes of a checkpoint, and of a safetensors file nothing else.

    Raises:
        CheckpointError: it is unsafe, corrupt or no checkpoint.
    """
    from bioconvert.checkpoint.files.sniff import sniff
    from bioconvert.checkpoint.folders.manifest import read_manifest
    from bioconvert.checkpoint.formats.layout import MANIFEST, locate

    layout = locate(path, unsafe_pickle=reading.unsafe_pickle)
    if reading.weights is None and layout.format == "bioconvert":
        return _from_manifest(path, read_manifest(path / MANIFEST))
    if reading.weights is None and all(sniff(file) == "safetensors" for file in layout.files):
        return _from_headers(layout)
    return _from_tensors(path, layout, reading)


def _from_manifest(path: Path, manifest: Manifest) -> Contents:
    from bioconvert.checkpoint.files.dtypes import byte_count

    lines = [TensorLine(name, record.dtype, record.shape) for name, record in manifest.tensors.items()]
    return Contents(
        path,
        "bioconvert",
        tuple(sorted({record.file for record in manifest.tensors.values()})),
        _sorted(lines),
        sum(byte_count(line.dtype, line.shape) or 0 for line in lines),
        _conversion(manifest) if manifest.converted else None,
        manifest.non_finite,
    )


def _from_headers(layout: Layout) -> Contents:
    from bioconvert.checkpoint.files.header import read_header
    from bioconvert.checkpoint.files.shards import check_names

    headers = {file: read_header(file) for file in layout.files}
    if layout.index is not None:
        for file, header in headers.items():
            check_names(layout.index, file, set(header.tensors))
    entries = [entry for header in headers.values() for entry in header.tensors.values()]
    return Contents(
        layout.path,
        layout.format,
        tuple(file.name for file in layout.files),
        _sorted([TensorLine(entry.name, entry.dtype, entry.shape) for entry in entries]),
        sum(entry.nbytes for entry in entries),
    )


def _from_tensors(path: Path, layout: Layout, reading: Reading) -> Contents:
    from bioconvert.checkpoint import read_checkpoint
    from bioconvert.checkpoint.tensors.torch_dtypes import CODES

    found = read_checkpoint(path, weights=reading.weights, unsafe_pickle=reading.unsafe_pickle)
    return Contents(
        path,
        layout.format,
        tuple(file.name for file in layout.files),
        tuple(
            TensorLine(name, CODES.get(tensor.dtype, str(tensor.dtype)), tuple(tensor.shape))
            for name, tensor in found.tensors.items()
        ),
        sum(tensor.nbytes for tensor in found.tensors.values()),
    )


def _conversion(manifest: Manifest) -> Conversion:
    modules: list[dict[str, Any]] = (manifest.conversion or {})["modules"]
    changes = Counter(_change(step) for module in modules for step in module["steps"])
    return Conversion(
        manifest.source.name if manifest.source is not None else None,
        _architecture(manifest),
        tuple(str(rules.get("name") or "(unnamed)") for rules in manifest.rules),
        tuple(Line(count, was, becomes) for (was, becomes), count in changes.items()),
        manifest.tool,
    )


def _architecture(manifest: Manifest) -> str | None:
    # Written as --arch takes it; the class that does the same imports torch.
    found = manifest.architecture
    if found is None:
        return None
    return str(found["name"]) if found["kind"] == "callable" else f"{found['kind']}:{found['name']}"


def _change(step: Mapping[str, Any]) -> tuple[str, str]:
    was = PARAMETER if step["parameter"] else str(step["original_class"]).rpartition(".")[2]
    if step["action"] == "serve":
        return was, str(step["name"])
    if step["into"]:
        return was, str(step["into"]).rpartition(".")[2]
    return was, "forward rewritten" if step["edits"] else str(step["action"])


def _sorted(lines: list[TensorLine]) -> tuple[TensorLine, ...]:
    # A header's order is that of the bytes, wide types first. By name, with numbers as numbers, is more use.
    return tuple(sorted(lines, key=lambda line: _natural(line.name)))


def _natural(name: str) -> tuple[tuple[int, int, str], ...]:
    parts = re.split(r"([0-9]{1,18})", name)
    return tuple((0, int(part), "") if position % 2 else (1, 0, part) for position, part in enumerate(parts))

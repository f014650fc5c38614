"""Whether a checkpoint is converted in memory, or tensor by tensor because it doesn't fit there."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bioconvert.cli.source import Source
from bioconvert.cli.streams import note
from bioconvert.core.errors import OptionError
from bioconvert.core.sizes import size

if TYPE_CHECKING:
    from bioconvert.checkpoint.models.paging import Pager

_COPIES = 2
"""How often the tensors are in memory at once: as they were read, and in the model."""


@contextmanager
def paging(source: Source, stream: bool | None, out: Path | None, *, samples: bool) -> Iterator[Pager | None]:
    """Give a pager if values are to be read only when they are needed.

    Args:
        source: where the model comes from.
        stream: whether the user wants that; ``None`` to decide by the memory that is free.
        out: the folder to be written, beside which temporary files may lie.
        samples: whether the model is to be run on sample data.

    Raises:
        OptionError: it is wanted, and can't be done.
        ResourceError: there isn't enough memory, and it can't be done otherwise.
    """
    if not _streams(source, stream, samples=samples):
        yield None
        return
    from bioconvert.checkpoint.models.paging import Pager

    folder = Path(tempfile.gettempdir()) if out is None else out.absolute().parent
    with Pager(folder) as pager:
        yield pager


def _streams(source: Source, stream: bool | None, *, samples: bool) -> bool:
    if source.checkpoint is None or stream is False:
        return False
    obstacle = _obstacle(source, source.checkpoint, samples=samples)
    if stream:
        if obstacle is not None:
            raise OptionError(f"--stream can't be had: {obstacle}")
        return True
    from bioconvert.checkpoint.output.preflight import check_memory, memory_limit

    need, limit = _COPIES * _bytes_of(source.checkpoint), memory_limit()
    if limit is None or need <= limit.free:
        return False
    if obstacle is not None:
        check_memory(need, f"its tensors can't be read one by one: {obstacle}")
    note(
        f"{source.checkpoint} would take {size(need)} of memory, and {size(limit.free)} are free: "
        "its tensors are read one by one"
    )
    return True


def _obstacle(source: Source, path: Path, *, samples: bool) -> str | None:
    """Say why a checkpoint can't be read tensor by tensor; ``None`` if it can."""
    if samples:
        return "the model is to be run on samples"
    if source.allow_missing:
        return "parameters that the checkpoint lacks (--allow-missing) are made in memory"
    if source.reading.weights is not None:
        return "--weights names a part of a training checkpoint"
    from bioconvert.checkpoint.files.sniff import sniff
    from bioconvert.checkpoint.formats.layout import locate

    layout = locate(path, unsafe_pickle=source.reading.unsafe_pickle)
    if layout.format == "bioconvert":
        return "it is a folder of bioconvert already"
    odd = next((file for file in layout.files if sniff(file) != "safetensors"), None)
    return None if odd is None else f"{odd.name} is no safetensors file"


def _bytes_of(path: Path) -> int:
    from bioconvert.checkpoint.formats.layout import locate

    files = path.iterdir() if path.is_dir() else locate(path).files
    return sum(file.stat().st_size for file in files if file.is_file())

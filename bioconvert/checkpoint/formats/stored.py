"""The tensors of a checkpoint where they lie, read in parts; torch is needed for its own files alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from bioconvert.checkpoint.files.header import Header, TensorEntry, read_header
from bioconvert.checkpoint.files.regular_files import open_regular, read_at
from bioconvert.checkpoint.files.shards import check_names
from bioconvert.checkpoint.files.sniff import sniff
from bioconvert.checkpoint.folders.manifest import Manifest, read_manifest
from bioconvert.checkpoint.folders.recorded_entry import entry_for
from bioconvert.checkpoint.formats.layout import MANIFEST, Layout, locate
from bioconvert.checkpoint.formats.prefix import common_prefix

if TYPE_CHECKING:
    import torch

    from bioconvert.checkpoint.formats.reading import Checkpoint


class Stored(Protocol):
    """One tensor of a checkpoint, whose bytes have not been read."""

    @property
    def dtype(self) -> str:
        """Its number format, by its name in safetensors files."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes."""
        ...

    def parts(self, size: int) -> Iterator[memoryview]:
        """Give its bytes in order, ``size`` at a time; a part lasts until the next is asked for."""
        ...


@dataclass(frozen=True, slots=True)
class InFile:
    """A tensor in a safetensors file.

    Args:
        file: the file.
        entry: where it lies.
        dtype: its number format, which a pair of reals may stand for.
        shape: its sizes.
    """

    file: Path
    entry: TensorEntry
    dtype: str
    shape: tuple[int, ...]

    def parts(self, size: int) -> Iterator[memoryview]:
        """Give its bytes in order, read from the file."""
        buffer = memoryview(bytearray(min(size, self.entry.nbytes)))
        with open_regular(self.file) as handle:
            for start in range(self.entry.start, self.entry.stop, size):
                part = buffer[: min(size, self.entry.stop - start)]
                read_at(handle, start, part)
                yield part


@dataclass(frozen=True, slots=True)
class InMemory:
    """A tensor of a file that only torch reads.

    Args:
        tensor: the tensor.
        dtype: its number format.
        shape: its sizes.
    """

    tensor: torch.Tensor
    dtype: str
    shape: tuple[int, ...]

    def parts(self, size: int) -> Iterator[memoryview]:
        """Give its bytes in order."""
        from bioconvert.checkpoint.tensors.payloads import tensor_bytes

        raw = tensor_bytes(self.tensor)
        for start in range(0, len(raw), size):
            yield raw[start : start + size]


@dataclass(frozen=True, slots=True)
class Contents:
    """The tensors of a checkpoint, not yet read where that can be avoided.

    Args:
        path: what was given.
        format: how it is laid out.
        tensors: every tensor by its name in the model; tied names have one each.
        prefix: what wrappers had put before every name.
        manifest: that of a folder of ours.
        nesting: keys that led to the tensors in a training dict, outermost first.
    """

    path: Path
    format: str
    tensors: Mapping[str, Stored]
    prefix: str = ""
    manifest: Manifest | None = None
    nesting: tuple[str, ...] = ()


def find_tensors(path: Path, *, weights: str | None = None, unsafe_pickle: bool = False) -> Contents:
    """Find the tensors of a checkpoint of any format, by the names that :func:`read_checkpoint` gives them.

    Args:
        path: a file or folder.
        weights: as for :func:`read_checkpoint`.
        unsafe_pickle: likewise.

    Raises:
        CheckpointError: it is unsafe, corrupt or no checkpoint.
        OptionError: there is nothing under ``weights``.
    """
    layout = locate(path, unsafe_pickle=unsafe_pickle)
    if weights is None and layout.format == "bioconvert":
        return _in_our_folder(path, read_manifest(path / MANIFEST))
    if weights is None and layout.files and all(sniff(file) == "safetensors" for file in layout.files):
        return _in_safetensors(layout)
    from bioconvert.checkpoint.formats.reading import read_checkpoint

    return _in_memory(read_checkpoint(path, weights=weights, unsafe_pickle=unsafe_pickle))


def _in_our_folder(folder: Path, manifest: Manifest) -> Contents:
    headers = {file: read_header(folder / file) for file in {r.file for r in manifest.tensors.values()}}
    tensors: dict[str, Stored] = {
        name: InFile(
            folder / record.file, entry_for(headers[record.file], name, record), record.dtype, record.shape
        )
        for name, record in manifest.tensors.items()
    }
    for leader, *others in manifest.ties:
        tensors.update(dict.fromkeys(others, tensors[leader]))
    bare = {manifest.bare(name): tensor for name, tensor in tensors.items()}
    return Contents(folder, "bioconvert", bare, manifest.prefix, manifest)


def _in_safetensors(layout: Layout) -> Contents:
    tensors: dict[str, Stored] = {}
    for file in layout.files:
        header = read_header(file)
        if layout.index is not None:
            check_names(layout.index, file, set(header.tensors))
        tensors.update(_entries(header))
    prefix = "" if layout.format == "huggingface" else common_prefix(tensors)
    bare = {name[len(prefix) :]: tensor for name, tensor in tensors.items()}
    return Contents(layout.path, layout.format, bare, prefix)


def _entries(header: Header) -> dict[str, Stored]:
    return {
        name: InFile(header.path, entry, entry.dtype, entry.shape) for name, entry in header.tensors.items()
    }


def _in_memory(found: Checkpoint) -> Contents:
    from bioconvert.checkpoint.tensors.torch_dtypes import CODES

    tensors: dict[str, Stored] = {
        name: InMemory(tensor, CODES.get(tensor.dtype, str(tensor.dtype)), tuple(tensor.shape))
        for name, tensor in found.tensors.items()
    }
    return Contents(found.source, found.format, tensors, found.prefix, nesting=found.nesting)

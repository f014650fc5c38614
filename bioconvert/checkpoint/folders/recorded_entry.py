"""A manifest's record of a tensor, found again in a file's header."""

from __future__ import annotations

from bioconvert.checkpoint.files.dtypes import stored_form
from bioconvert.checkpoint.files.header import Header, TensorEntry
from bioconvert.checkpoint.folders.manifest import TensorRecord
from bioconvert.core.errors import CorruptFileError


def entry_for(header: Header, name: str, record: TensorRecord) -> TensorEntry:
    """Find a listed tensor in the header of its file.

    Raises:
        CorruptFileError: it isn't there, or has another format or shape.
    """
    entry = header.tensors.get(name)
    if entry is None:
        raise CorruptFileError(f"{header.path}: lacks the tensor {name!r} that the manifest lists")
    if (entry.dtype, entry.shape) != stored_form(record.dtype, record.shape):
        raise CorruptFileError(
            f"{header.path}: tensor {name!r} is {entry.dtype} {list(entry.shape)}, but the manifest lists "
            f"{record.dtype} {list(record.shape)}"
        )
    return entry

"""The table of tensors in a ``model.pt`` of ours: what stands where in the file, read without torch.

torch itself passes over the entry. Its form is that of a safetensors header, with offsets from the file's
beginning. As ``data_start`` it gives the end, so that the hash of the header is that of the whole file.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import BinaryIO

from bioconvert.checkpoint.files.header import MAX_VALUES, Header, entry_of
from bioconvert.checkpoint.files.regular_files import size_of
from bioconvert.checkpoint.files.strict_json import parse_object
from bioconvert.checkpoint.files.zip_archive import check_directory
from bioconvert.core.errors import CheckpointError, CorruptFileError

ARCHIVE = "model"
TABLE = f"{ARCHIVE}/bioconvert_tensors.json"
_MAX_TABLE = 256 << 20


def table_of(handle: BinaryIO, path: Path) -> Header:
    """Read the table of an open file of ours.

    Raises:
        CheckpointError: it is a zip file without one.
        CorruptFileError: it is damaged, or names places outside the file.
    """
    size = size_of(handle)
    fields = parse_object(_table(handle, path), f"{path}: the table of tensors", most=MAX_VALUES)
    entries = sorted(
        (entry_of(path, name, value, 0) for name, value in fields.items()),
        key=lambda entry: (entry.start, entry.stop),
    )
    if any(entry.stop > size for entry in entries):
        raise CorruptFileError(f"{path}: the table of tensors leads beyond the end of the file")
    return Header(path, {entry.name: entry for entry in entries}, {}, size, data_start=size)


def _table(handle: BinaryIO, path: Path) -> bytes:
    check_directory(handle, path)
    handle.seek(0)
    try:
        with zipfile.ZipFile(handle) as archive:
            found = archive.getinfo(TABLE)
            if found.file_size > _MAX_TABLE or found.compress_type != zipfile.ZIP_STORED:
                raise CorruptFileError(f"{path}: its table of tensors is none of ours")
            return archive.read(found)
    except KeyError:
        raise CheckpointError(f"{path}: has no table of tensors; bioconvert didn't write it") from None
    except (zipfile.BadZipFile, EOFError, ValueError, OverflowError, NotImplementedError, OSError) as error:
        raise CorruptFileError(f"{path}: is a damaged zip archive ({error})") from None

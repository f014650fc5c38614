"""The zip archive that torch.save writes, judged before torch opens it.

torch checks neither the checksums nor what the archive unpacks to; here every entry's CRC is verified, in
blocks, and an archive that claims more than its own size is refused before anything is allocated.
"""

from __future__ import annotations

import errno
import struct
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO, Literal

from bioconvert.checkpoint.files.regular_files import BLOCK, read_at, size_of
from bioconvert.core.errors import CheckpointError, CorruptFileError, UnsafeFileError

ZipKind = Literal["torch", "exported program"]

MAX_PICKLE = 32 << 20
"""A state dict of 100,000 tensors takes about 15 MiB of pickle."""
MAKERS = b"](}R\x81\x85\x86\x87\x8f"
"""Opcodes of a byte that make an object: lists, marks, dicts, calls, short tuples, sets."""
MAX_OBJECTS = 2_000_000
"""Seven a tensor are usual."""
_MAX_CALLS = 750_000
"""Two a tensor are usual."""
_MAX_DIRECTORY = 32 << 20
_END = struct.Struct("<4s4H2LH")
_END_MAGIC = b"PK\x05\x06"
_MAX_COMMENT = 0xFFFF
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_IN_ZIP64 = 0xFFFFFFFF
_OTHERS = (
    ("model.weights.h5", "a Keras model: load it in Keras and export the weights as safetensors"),
    (".npy", "arrays of NumPy: save a dict of named tensors with safetensors instead"),
    ("saved_model.pb", "a TensorFlow model: convert its weights to safetensors where TensorFlow is"),
    (".safetensors", "a packed folder: unpack it first"),
    (".bin", "a packed folder: unpack it first"),
)
"""Entries by which zip files of other kinds are known."""
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_DAMAGE = (zipfile.BadZipFile, EOFError, struct.error, ValueError, OverflowError, zlib.error)


def check_zip(handle: BinaryIO, path: Path) -> ZipKind:
    """Check that an open zip file is a sound checkpoint of torch, and say of which kind.

    Raises:
        CorruptFileError: truncated, or an entry doesn't have the bytes that its checksum is of.
        UnsafeFileError: it unpacks to more than its size, or lists an absurd number of entries.
        CheckpointError: a TorchScript program, or some other zip file.
    """
    size = size_of(handle)
    check_directory(handle, path)
    handle.seek(0)
    try:
        with zipfile.ZipFile(handle) as archive:
            kind = _check_entries(archive.infolist(), path, size)
            for entry in archive.infolist():
                _check_crc(archive, entry, path)
                if entry.filename.endswith("data.pkl"):
                    check_objects(archive.read(entry), path)
            return kind
    except _DAMAGE as error:
        raise _damaged(path, error) from None
    except OSError as error:
        if error.errno not in {None, errno.EINVAL}:  # a place before the beginning of the file was sought
            raise
        raise _damaged(path, error) from None
    except (NotImplementedError, RuntimeError) as error:
        raise CheckpointError(f"{path}: is a zip archive that torch.save didn't write ({error})") from None


def check_directory(handle: BinaryIO, path: Path) -> None:
    """Check that the list of entries of an open zip file isn't absurdly long, before zipfile reads it whole.

    Raises:
        CorruptFileError: there is none.
        UnsafeFileError: it is.
    """
    if _directory_size(handle, path, size_of(handle)) > _MAX_DIRECTORY:
        raise UnsafeFileError(f"{path}: lists an absurd number of entries; no checkpoint needs as many")


def check_objects(pickle: bytes, path: Path) -> None:
    """Check that a pickle makes no absurd number of objects.

    Raises:
        UnsafeFileError: it could make more than any checkpoint has.
    """
    made = len(pickle) - len(pickle.translate(None, MAKERS))
    if made > MAX_OBJECTS or pickle.count(b"R") > _MAX_CALLS:
        raise UnsafeFileError(f"{path}: its pickle makes up to {made} objects; no checkpoint needs as many")


def _damaged(path: Path, error: Exception) -> CorruptFileError:
    return CorruptFileError(f"{path}: is a damaged zip archive ({error}); copy or download it again")


def _check_entries(entries: list[zipfile.ZipInfo], path: Path, size: int) -> ZipKind:
    # torch looks for an entry whatever the case of its name.
    names = [entry.filename.casefold() for entry in entries]
    if len(set(names)) < len(names):
        raise UnsafeFileError(
            f"{path}: has two entries of the same name, which readers could take in two ways"
        )
    if any(entry.compress_type not in _METHODS or entry.flag_bits & 1 for entry in entries):
        raise CorruptFileError(
            f"{path}: has an encrypted or oddly compressed entry, which torch never writes"
        )
    if min((entry.header_offset for entry in entries), default=1) != 0:
        raise CorruptFileError(f"{path}: the zip archive doesn't list what it begins with; it is cut short")
    total = sum(entry.file_size for entry in entries)
    if total > size:
        raise UnsafeFileError(
            f"{path}: has {size} bytes and unpacks to {total}; torch never compresses. "
            "If you compressed it yourself, unpack it and save the result"
        )
    kind = _kind({entry.filename for entry in entries}, path)
    for entry in entries:
        if entry.filename.endswith("data.pkl") and entry.file_size > MAX_PICKLE:
            raise UnsafeFileError(
                f"{path}: its pickle has {entry.file_size} bytes; no checkpoint needs more than {MAX_PICKLE}"
            )
    return kind


def _kind(paths: set[str], path: Path) -> ZipKind:
    names = {name.partition("/")[2] for name in paths}
    if "constants.pkl" in names or any(name.startswith("code/") for name in names):
        raise CheckpointError(
            f"{path}: is a TorchScript program, not a checkpoint; save the state_dict() of its model instead"
        )
    if "archive_format" in names or any(name.startswith("models/") for name in names):
        return "exported program"
    if any(name.startswith("serialized_") for name in paths):
        raise CheckpointError(
            f"{path}: is an exported program of an old torch; export it again, or save the state_dict() "
            "of its model instead"
        )
    if "data.pkl" not in names:
        raise CheckpointError(
            f"{path}: is a zip archive, but none that torch.save wrote (it has no data.pkl){_guess(paths)}"
        )
    return "torch"


def _guess(names: set[str]) -> str:
    """Say what some other zip file is, where its entries tell."""
    for name, what in _OTHERS:
        if any(found == name or found.endswith(name) for found in names):
            return f"; it looks like {what}"
    return ""


def _check_crc(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> None:
    length = 0
    with archive.open(entry) as content:
        while block := content.read(BLOCK):
            length += len(block)
    if length != entry.file_size:
        raise CorruptFileError(f"{path}: entry {entry.filename!r} has {length} of {entry.file_size} bytes")


def _directory_size(handle: BinaryIO, path: Path, size: int) -> int:
    """Give the size in bytes of the list of entries at the end, which zipfile reads whole."""
    length = min(size, _END.size + _MAX_COMMENT)
    tail = bytearray(length)
    read_at(handle, size - length, memoryview(tail))
    at = tail.rfind(_END_MAGIC)
    # An archive within the archive has an end too, which isn't that of the file.
    if at < 0 or at + _END.size > length or at + _END.size + _END.unpack_from(tail, at)[7] != length:
        raise CorruptFileError(
            f"{path}: the zip archive has no end; it is cut short. Copy or download it again"
        )
    claimed = int(_END.unpack_from(tail, at)[5])
    # zipfile prefers the 64-bit end wherever there is one, whatever the plain end says.
    claimed64 = _directory_size64(handle, size - length + at)
    return claimed if claimed64 is None else max(claimed64, 0 if claimed == _IN_ZIP64 else claimed)


def _directory_size64(handle: BinaryIO, end: int) -> int | None:
    """Read the same from the 64-bit end, whose locator stands right before the plain end, if there is one."""
    if end < _END64_LOCATOR.size:
        return None
    locator = bytearray(_END64_LOCATOR.size)
    read_at(handle, end - len(locator), memoryview(locator))
    magic, _, offset, _ = _END64_LOCATOR.unpack(locator)
    if magic != b"PK\x06\x07":
        return None
    # Some versions of zipfile go where the locator says, others to what stands before it.
    claims = [_claim64(handle, at) for at in (offset, end - len(locator) - _END64.size) if 0 <= at < end]
    return max((claim for claim in claims if claim is not None), default=None)


def _claim64(handle: BinaryIO, offset: int) -> int | None:
    record = bytearray(_END64.size)
    read_at(handle, offset, memoryview(record))
    return int(_END64.unpack(record)[8]) if record.startswith(b"PK\x06\x06") else None

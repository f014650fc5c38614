"""Torch's pickles, zip and legacy, loaded without running anything that they ask for."""

from __future__ import annotations

import errno
import pickle
import pickletools
import re
import warnings
import zipfile
from pathlib import Path
from typing import BinaryIO

import torch

from bioconvert.checkpoint.files.metered import Metered
from bioconvert.checkpoint.files.needs_code import NeedsCodeError
from bioconvert.checkpoint.files.regular_files import open_regular
from bioconvert.checkpoint.files.sniff import FileFormat, sniff_open
from bioconvert.checkpoint.files.zip_archive import check_zip
from bioconvert.checkpoint.formats.exported_program import read_exported
from bioconvert.checkpoint.formats.harmless import NAMES, harmless_globals
from bioconvert.core.errors import BioconvertError, CorruptFileError, UnsafeFileError

_GLOBAL = re.compile(r"GLOBAL (\S+)")
_PLAIN_MODULES = (
    "torch",
    "collections",
    "torch._utils",
    "torch.storage",
    "torch._tensor",
    "torch.nn.parameter",
)
_SHOWN = 5
_NAME_SHOWN = 120
_MAX_LEGACY_PICKLE = 4 << 20
"""Enough for 30,000 tensors; the legacy format went out of use when models had some hundreds."""


def load_pickled(path: Path, file_format: FileFormat) -> object:
    """Load what torch.save wrote, tensors and plain values only; of an exported program, its state dict.

    Raises:
        NeedsCodeError: it asks for a class or function, which is named; nothing was called.
        UnsafeFileError: it asks for absurd amounts of memory.
        CorruptFileError: truncated or damaged.
        CheckpointError: a zip file of another kind.
    """
    with open_regular(path) as handle:
        try:
            return _load(handle, path, file_format)
        except BioconvertError:
            raise
        except pickle.UnpicklingError as error:
            raise _refusal(handle, path, file_format, str(error)) from None
        except MemoryError:
            raise UnsafeFileError(f"{path}: asks for more memory than there is") from None
        except OSError as error:
            if error.errno not in {None, errno.EINVAL}:
                raise
            raise _damage(path, error) from None
        except Exception as error:  # noqa: BLE001 - torch's unpickler fails in any way on damaged bytes
            raise _damage(path, error) from None


def _load(handle: BinaryIO, path: Path, file_format: FileFormat) -> object:
    if file_format == "torch zip" and check_zip(handle, path) == "exported program":
        return read_exported(handle, path)
    file = handle if file_format == "torch zip" else Metered(handle, path, _MAX_LEGACY_PICKLE)
    file.seek(0)
    with warnings.catch_warnings(), harmless_globals():
        warnings.simplefilter("ignore")
        return torch.load(file, map_location="cpu", weights_only=True, mmap=False)  # type: ignore[arg-type]


def _damage(path: Path, error: Exception) -> BioconvertError:
    reason = (str(error).splitlines() or [""])[0][:160]
    if "allocate memory" in reason:
        return UnsafeFileError(f"{path}: asks for more memory than there is ({reason})")
    said = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
    return CorruptFileError(f"{path}: can't be read to its end ({said}); it is cut short or damaged")


def _refusal(handle: BinaryIO, path: Path, file_format: FileFormat, message: str) -> BioconvertError:
    """Say what a refused pickle wanted, in our own words: torch's advise to run it."""
    found, whole = _globals_in(handle, file_format)
    named = _GLOBAL.search(message)
    if named is not None and named[1] in found:
        wanted = [named[1]]
    else:
        plain = (name in NAMES or name.rpartition(".")[0] in _PLAIN_MODULES for name in found)
        wanted = [name for name, is_plain in zip(found, plain, strict=True) if not is_plain]
    if not wanted and not whole:
        return CorruptFileError(f"{path}: the pickle is cut short or damaged; copy or download it again")
    names = ", ".join(name[:_NAME_SHOWN] for name in wanted[:_SHOWN])
    return NeedsCodeError(
        path,
        f"would run code when loaded: its pickle wants {names or 'objects that torch.save does not write'}",
    )


def wanted_by(path: Path) -> list[str]:
    """Name the classes and functions that a pickle of torch refers to; nothing in it is run."""
    with open_regular(path) as handle:
        return _globals_in(handle, sniff_open(handle, path))[0]


def _globals_in(handle: BinaryIO, file_format: FileFormat) -> tuple[list[str], bool]:
    """Name the classes and functions that a pickle's opcodes refer to, and say whether it is whole."""
    handle.seek(0)
    if file_format == "torch legacy":
        return _scan(Metered(handle, Path(handle.name), _MAX_LEGACY_PICKLE), pickles=5)  # type: ignore[arg-type]
    try:
        with zipfile.ZipFile(handle) as archive:
            name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            with archive.open(name) as content:
                return _scan(content, pickles=1)  # type: ignore[arg-type]
    except (zipfile.BadZipFile, StopIteration):  # it has changed since it was looked at
        return [], False


def _scan(stream: BinaryIO, pickles: int) -> tuple[list[str], bool]:
    found: dict[str, None] = {}
    try:
        for _ in range(pickles):
            texts: list[str] = []
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name in {"GLOBAL", "INST"}:
                    found[str(argument).replace(" ", ".")] = None
                elif opcode.name == "STACK_GLOBAL":
                    found[".".join(texts[-2:])] = None
                elif isinstance(argument, str):
                    texts.append(argument)
    except (ValueError, EOFError, IndexError, OverflowError, UnsafeFileError):
        return list(found), False
    return list(found), True

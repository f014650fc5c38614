"""What was exported, and the file that appears complete or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from bioconvert.checkpoint.output.publishing import sync_folder
from bioconvert.core.errors import TargetError


@dataclass(frozen=True, slots=True)
class Exported:
    """A file that was exported.

    Args:
        path: the file.
        size: its length in bytes.
        tensors: number of tensors in it.
        left_out: names of tensors that only training needs.
        difference: largest difference between the file's outputs and the model's, as a fraction of the
            model's largest output; ``None`` where it can't be run.
        compared_by: what ran the file, or why it was not run.
    """

    path: Path
    size: int
    tensors: int
    left_out: tuple[str, ...] = ()
    difference: float | None = None
    compared_by: str = ""


def check_file_target(path: Path, *, overwrite: bool) -> None:
    """Check that a file may appear under a name.

    Raises:
        TargetError: a folder has the name, or a file that may not be replaced, or there is no folder for it.
    """
    if path.is_dir():
        raise TargetError(f"{path}: must be a file, but is a folder")
    if os.path.lexists(path) and not overwrite:
        raise TargetError(f"{path}: exists; choose another name, or replace it with --overwrite")
    if not path.absolute().parent.is_dir():
        raise TargetError(f"{path}: there is no folder {path.parent}")


@contextmanager
def new_single_file(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a path to write to, whose file takes the target's name when the block ends without an error.

    Args:
        path: the file to appear, with what the umask leaves of mode 0666.
        overwrite: whether a file may be replaced; it stays until the new one is on the disk.

    Raises:
        TargetError: the target is in use, or the system refused to write; the target is as it was.
    """
    check_file_target(path, overwrite=overwrite)
    target = Path(os.path.realpath(path))
    place = target.with_name(f".{target.name}.bioconvert-{token_hex(4)}")
    try:
        place.mkdir()
        yield place / target.name
        made = [file.name for file in place.iterdir()]
        if made != [target.name]:
            raise TargetError(f"{path}: needs more files than one ({', '.join(sorted(made))})")
        _sync_file(place / target.name)
        check_file_target(path, overwrite=overwrite)
        (place / target.name).replace(target)
        sync_folder(target.parent)
    except TargetError:
        raise
    except OSError as error:
        raise TargetError(f"{path}: could not be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

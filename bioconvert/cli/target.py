"""The folder to write to, checked before anything is read."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bioconvert.core.errors import CheckpointError, OptionError, TargetError

if TYPE_CHECKING:
    from bioconvert.checkpoint.models.saving import WeightsFormat


@dataclass(frozen=True, slots=True)
class Writing:
    """How a folder is to be written.

    Args:
        overwrite: whether what is in it may be replaced.
        in_place: whether it is the checkpoint's own folder.
        resume: whether to go on with what an interrupted run has left.
        shard_size: bytes of tensors that one file may hold.
        weights_format: ``"safetensors"`` or ``"pt"``.
    """

    overwrite: bool
    in_place: bool
    resume: bool
    shard_size: int
    weights_format: WeightsFormat = "safetensors"

    @property
    def may_replace(self) -> bool:
        """Whether a folder that isn't empty may be replaced."""
        return self.overwrite or self.in_place


def parse_format(text: str) -> WeightsFormat:
    """Read ``--format``.

    Raises:
        OptionError: it is none of the two.
    """
    if text == "safetensors" or text == "pt":
        return text  # type: ignore[return-value]
    raise OptionError(f"--format must be safetensors or pt, not {text!r}")


def target_of(out: Path | None, checkpoint: Path, writing: Writing) -> Path:
    """Give the target of a conversion, if it can be written to as far as one can tell without writing.

    Raises:
        OptionError: there is none, or two, or ``--in-place`` is for a file.
        TargetError: as for :func:`check_target`; or something would be lost with the folder that is replaced.
        ResourceError: there is less disk space than the checkpoint's own tensors take.
    """
    from bioconvert.checkpoint.output.preflight import check_space

    if writing.in_place:
        target = _own_folder(out, checkpoint, writing)
    else:
        target = _other_folder(out, checkpoint, writing)
    if not writing.resume:
        check_space(target, _bytes_to_write(checkpoint))
    return target


def _other_folder(out: Path | None, checkpoint: Path, writing: Writing) -> Path:
    target = check_target(out, overwrite=writing.overwrite, resume=writing.resume)
    inside = target.resolve() in (checkpoint.resolve(), *checkpoint.resolve().parents)
    if inside and target.is_dir() and any(target.iterdir()):
        raise TargetError(
            f"{target}: holds the checkpoint itself, which would be lost; choose another folder"
            + (", or convert it --in-place" if target.resolve() == checkpoint.resolve() else "")
        )
    return target


def _bytes_to_write(checkpoint: Path) -> int:
    """Say what the result takes at least, as far as that can be told from outside; what isn't said is 0."""
    from bioconvert.checkpoint.files.sniff import sniff
    from bioconvert.checkpoint.formats.layout import locate

    try:
        files = [file for file in locate(checkpoint).files if sniff(file) == "safetensors"]
        return sum(file.stat().st_size for file in files)
    except (CheckpointError, OSError):
        return 0  # what is wrong with it is said when it is read


def check_target(out: Path | None, *, overwrite: bool, resume: bool = False) -> Path:
    """Give the target, if it can be written to as far as one can tell without writing.

    Raises:
        OptionError: there is none.
        TargetError: it or a folder above it is a file, it isn't empty and may not be replaced, another
            process is writing to it, or unfinished work lies beside it.
        PermissionError: the folder that it would lie in may not be written to.
    """
    from bioconvert.checkpoint.output.staging import Staging, check_free

    if out is None:
        raise OptionError("say where to write: --out DIR (or --dry-run to write nothing)")
    if out.is_dir() and not overwrite and any(out.iterdir()):
        raise TargetError(f"{out}: is not empty; choose another folder, or replace it with --overwrite")
    staging = Staging(out)
    above = next(path for path in (*staging.target.parents, Path("/")) if path.exists())
    if (out.exists() and not out.is_dir()) or not above.is_dir():
        file = out if out.exists() else above
        raise TargetError(f"{out}: must be a folder, but {file.name} is a file")
    if not os.access(above, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(above))
    if staging.is_busy:
        raise TargetError(f"another process is writing to {out}; wait for its end, or choose another folder")
    check_free(staging, overwrite=overwrite, resume=resume)
    return out


def _own_folder(out: Path | None, checkpoint: Path, writing: Writing) -> Path:
    if out is not None:
        raise OptionError("give --out or --in-place, not both")
    if not checkpoint.is_dir():
        raise OptionError(
            f"--in-place replaces a folder by its conversion, but {checkpoint.name} is a file; "
            "give --out DIR, and remove the file when the result is as you want it"
        )
    lost = _not_carried_over(checkpoint)
    if lost:
        more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
        raise TargetError(
            f"{checkpoint}: --in-place would lose what is no part of the checkpoint: "
            f"{', '.join(lost[:3])}{more}; move that away first, or give --out DIR"
        )
    return check_target(checkpoint, overwrite=True, resume=writing.resume)


def _not_carried_over(folder: Path) -> list[str]:
    """Name what is in a checkpoint's folder and neither in its weights nor copied beside them."""
    from bioconvert.checkpoint.folders.manifest import read_manifest
    from bioconvert.checkpoint.folders.side_files import side_files
    from bioconvert.checkpoint.formats.layout import MANIFEST, locate

    layout = locate(folder)
    carried = {path.name for path in (*layout.files, *side_files(folder))} | {MANIFEST}
    if layout.index is not None:
        carried.add(layout.index.path.name)
    if layout.format == "bioconvert":
        carried.update(read_manifest(folder / MANIFEST).files)
    return sorted(path.name for path in folder.iterdir() if path.name not in carried)

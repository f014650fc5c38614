"""The folder to write to, checked before anything is read."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from bioconvert.core.errors import OptionError, TargetError


def check_target(out: Path | None, *, overwrite: bool) -> Path:
    """Give the target, if it can be written to as far as one can tell without writing.

    Raises:
        OptionError: there is none.
        TargetError: it or a folder above it is a file, or it isn't empty and may not be replaced.
        PermissionError: the folder that it would lie in may not be written to.
    """
    if out is None:
        raise OptionError("say where to write: --out DIR (or --dry-run to write nothing)")
    if out.is_dir() and not overwrite and any(out.iterdir()):
        raise TargetError(f"{out}: is not empty; choose another folder, or replace it with --overwrite")
    above = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not above.is_dir():
        raise TargetError(f"{out}: must be a folder, but {above.name} is a file")
    if not os.access(above, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(above))
    return out

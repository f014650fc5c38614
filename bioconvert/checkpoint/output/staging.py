"""A folder that appears under its name complete or not at all.

Everything is written into a folder beside the target, ``.NAME.bioconvert-partial``, on the same file system,
and reaches the disk before it takes the target's name. At every instant, after any kill or power cut, the
target is absent, the old complete folder, or the new complete one. Where the system can't exchange two
folders in one step, there is a moment in which the target is absent and both lie in the folder beside it.

One process at a time writes to a target. What an interrupted one leaves is removed by the next, unless there
are finished files on record: those are continued, or given up, only on demand.
"""

from __future__ import annotations

import logging
import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bioconvert.checkpoint.files.regular_files import sha256_of
from bioconvert.checkpoint.formats.layout import MANIFEST
from bioconvert.checkpoint.output.journal import Recorded, read_journal
from bioconvert.checkpoint.output.locks import is_locked, locked_folder, others_in, remove_locked
from bioconvert.checkpoint.output.publishing import publish
from bioconvert.core.errors import TargetError

_log = logging.getLogger("bioconvert")


class Staging:
    """The places beside a target.

    Args:
        given: the folder to appear, as the user names it.
    """

    def __init__(self, given: Path):
        self.given = given
        self.target = Path(os.path.realpath(given))
        self.place = self.target.parent / f".{self.target.name}.bioconvert-partial"
        self.folder = self.place / "folder"
        self.aside = self.place / "replaced"
        self.journal = self.place / "journal.jsonl"

    @property
    def is_busy(self) -> bool:
        """Whether a process is writing to the target."""
        return is_locked(self.place)

    def leftover(self) -> Recorded | None:
        """Read what an unfinished run has on record; ``None`` where there is nothing, or all was done."""
        recorded = read_journal(self.journal)
        if recorded is None or recorded.complete is None:
            return recorded
        there = self.target / MANIFEST
        return None if there.is_file() and sha256_of(there) == recorded.complete else recorded

    def publish(self, *, overwrite: bool) -> None:
        """Let the folder take the target's name."""
        check_target(self.target, overwrite=overwrite)
        publish(self.folder, self.target, self.aside)

    def recover(self) -> None:
        """Give back its name to an old folder that lies aside, or remove it where another has the name."""
        if self.aside.exists() and not self.target.exists():
            self.aside.replace(self.target)
        elif self.aside.exists():
            shutil.rmtree(self.aside)

    def clear(self) -> None:
        """Remove all but the lock."""
        self.journal.unlink(missing_ok=True)
        for path in others_in(self.place):
            shutil.rmtree(path)


@contextmanager
def staged_folder(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give an empty folder to write into, which takes the target's name when the block ends without an error.

    Args:
        target: the folder to appear.
        overwrite: whether a folder that isn't empty may be replaced; it stays until the new one is complete.

    Raises:
        TargetError: the target is in use, or the system refused to write; the target is as it was.
    """
    with claimed(target, overwrite=overwrite) as staging:
        yield staging.folder
        staging.publish(overwrite=overwrite)


@contextmanager
def claimed(target: Path, *, overwrite: bool, resume: bool = False) -> Iterator[Staging]:
    """Hold the place beside a target alone; what is in it goes when the block ends, bar finished files.

    Args:
        target: the folder to appear.
        overwrite: whether a folder that isn't empty, or unfinished work, may be replaced.
        resume: whether the folder to write into keeps what an unfinished run has left.

    Raises:
        TargetError: the target is in use, or the system refused to write.
    """
    staging = Staging(target)
    try:
        check_target(staging.target, overwrite=overwrite)
        staging.target.parent.mkdir(parents=True, exist_ok=True)
        with locked_folder(staging.place, f"to {target}"), _tidied(staging):
            staging.recover()
            check_free(staging, overwrite=overwrite, resume=resume)
            if not resume or staging.leftover() is None:
                staging.clear()
            staging.folder.mkdir(exist_ok=True)
            yield staging
    except TargetError:
        raise
    except OSError as error:
        reason = f"{target}: could not be written: {error.strerror or error}"
        raise TargetError(reason + _advice(staging)) from error
    except BaseException:
        if advice := _advice(staging):
            _log.warning("%s: not complete%s", target, advice)
        raise


def check_target(target: Path, *, overwrite: bool) -> None:
    """Check that a folder may appear under a name.

    Raises:
        TargetError: a file has the name, or a folder that isn't empty or may not be replaced.
    """
    if target.exists() and not target.is_dir():
        raise TargetError(f"{target}: must be a folder, but is a file")
    if target.exists() and not overwrite and any(target.iterdir()):
        raise TargetError(f"{target}: isn't empty; choose another folder, or say that it may be overwritten")
    if target.is_mount():
        raise TargetError(f"{target}: is where a file system is mounted; name a folder in it")


def check_free(staging: Staging, *, overwrite: bool, resume: bool) -> None:
    """Check that neither the target nor unfinished work beside it stands in the way.

    Raises:
        TargetError: something does.
    """
    check_target(staging.target, overwrite=overwrite)
    if not overwrite and not resume and staging.leftover() is not None:
        raise TargetError(
            f"{staging.given}: an unfinished conversion lies beside it; "
            f"continue it by {_command(staging)}, or start anew by --overwrite (overwrite=True)"
        )


@contextmanager
def _tidied(staging: Staging) -> Iterator[None]:
    """Leave nothing but finished files that are on record."""
    try:
        yield
    finally:
        if staging.leftover() is None:
            try:
                staging.recover()
                staging.clear()
                remove_locked(staging.place)
            except OSError as error:
                _log.warning("%s: could not be removed: %s", staging.place, error)


def unfinished_beside(target: Path) -> str | None:
    """Say what to do with unfinished work beside a folder; ``None`` where there is none."""
    staging = Staging(target)
    if staging.is_busy:
        return f"another process is writing to {target}"
    if staging.leftover() is None:
        return None
    return f"an unfinished conversion to {target} lies beside it; {_command(staging)} goes on with it"


def _command(staging: Staging) -> str:
    return f"`bioconvert resume {shlex.quote(str(staging.given))}`"


def _advice(staging: Staging) -> str:
    if staging.leftover() is None:
        return ""
    return f"; finished files are kept: {_command(staging)} goes on"


def remove_leftover(staging: Staging) -> None:
    """Remove what lies beside a target that is complete."""
    if staging.place.exists():
        with locked_folder(staging.place, f"to {staging.given}"), _tidied(staging):
            staging.recover()

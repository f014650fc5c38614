"""``bioconvert resume``: an interrupted conversion, continued where it stopped."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bioconvert.cli.command import Answer
from bioconvert.cli.convert import convert
from bioconvert.cli.job import Asked
from bioconvert.cli.options import UnsafePickle
from bioconvert.cli.streams import note
from bioconvert.core.errors import CorruptFileError, OptionError, TargetError
from bioconvert.report.text import plural

if TYPE_CHECKING:
    from bioconvert.checkpoint.output.journal import Recorded
    from bioconvert.checkpoint.output.staging import Staging


def resume(
    out: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="The folder that the conversion was to write.", readable=False),
    ],
    unsafe_pickle: UnsafePickle = False,
) -> Answer:
    """Go on with an interrupted conversion.

    The command that began it is repeated as it was given, in its working directory; files that it had
    finished are checked by their hashes and kept. The result is the same, byte for byte, as without the
    interruption. Refused if source, rules, options or versions changed since.
    """
    from bioconvert.checkpoint.output.staging import Staging

    staging = Staging(out)
    if staging.is_busy:
        raise TargetError(f"another process is writing to {out}; wait for its end")
    recorded = staging.leftover()
    if recorded is None:
        return _nothing_to_do(staging)
    asked = _asked(staging, recorded, unsafe_pickle=unsafe_pickle)
    note(f"continuing the conversion to {out}: {plural(len(recorded.files), 'file')} finished before")
    arguments = {**asked.arguments, "resume": True}
    if not arguments.get("in_place"):
        arguments["out"] = out.absolute()
    with _working_in(asked.folder):
        return convert(**arguments)


def _nothing_to_do(staging: Staging) -> Answer:
    from bioconvert.checkpoint.formats.layout import MANIFEST
    from bioconvert.checkpoint.output.staging import remove_leftover

    if not (staging.target / MANIFEST).is_file():
        raise OptionError(
            f"{staging.given}: nothing unfinished lies beside it; begin by `bioconvert convert`"
        )
    remove_leftover(staging)
    data = {"out": str(staging.given), "complete": True}
    return Answer(data, lambda: [f"{staging.given} is complete: there was nothing left to do"])


def _asked(staging: Staging, recorded: Recorded, *, unsafe_pickle: bool) -> Asked:
    try:
        asked = Asked.from_json(recorded.opening.command)
        inspect.signature(convert).bind(**asked.arguments)
    except (KeyError, TypeError, ValueError, AttributeError):
        asked = None
    if asked is None or asked.command != "convert":
        raise CorruptFileError(f"{staging.journal}: names no command that can be repeated; start anew")
    # Who may write to the journal must not decide that code is run.
    if asked.arguments.get("unsafe_pickle") and not unsafe_pickle:
        raise OptionError("the conversion was begun with --unsafe-pickle: give that to resume, too")
    return asked


@contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)

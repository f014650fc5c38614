"""``bioconvert revert``: the original model of a converted folder, as a checkpoint again."""

from __future__ import annotations

from bioconvert.cli.command import Answer
from bioconvert.cli.options import Folder, Out, Overwrite
from bioconvert.cli.source import require
from bioconvert.cli.streams import step
from bioconvert.cli.target import check_target


def revert(
    folder: Folder,
    out: Out,
    overwrite: Overwrite = False,
) -> Answer:
    """Write the original model of a converted folder.

    The classes are the old ones; weights that were trained since stay as trained.
    """
    from bioconvert.checkpoint import revert_folder

    check_target(out, overwrite=overwrite)
    require(folder)
    with step(f"reverting {folder}"):
        revert_folder(folder, out, overwrite=overwrite)
    return Answer({"out": str(out)}, lambda: [f"written to {out}"])

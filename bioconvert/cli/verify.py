"""``bioconvert verify``: whether a converted folder is what was written, by its hashes."""

from __future__ import annotations

from bioconvert.cli.command import Answer
from bioconvert.cli.exits import Exit
from bioconvert.cli.options import Folder
from bioconvert.cli.source import require
from bioconvert.cli.streams import note, step
from bioconvert.report.text import plural


def verify(
    folder: Folder,
) -> Answer:
    """Check a converted folder against its hashes.

    Each finding is one line, and the exit code is 1 if there is any.
    """
    from bioconvert.checkpoint import verify_folder
    from bioconvert.checkpoint.output.staging import unfinished_beside
    from bioconvert.cli.contents import read_contents

    require(folder)
    if unfinished := unfinished_beside(folder):
        note(f"note: {unfinished}")
    with step(f"verifying {folder}"):
        findings = [str(finding) for finding in verify_folder(folder)]
    if findings:
        return Answer({"findings": findings}, lambda: findings, Exit.FINDINGS)
    contents = read_contents(folder)
    count = len(contents.tensors)
    return Answer(
        {"findings": [], "tensors": count, "bytes": contents.size},
        lambda: [f"sound: {plural(count, 'tensor')}, {plural(contents.size, 'byte')}"],
    )

"""``bioconvert doctor``: whether this machine, this installation and a folder are ready."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bioconvert.cli.command import Answer
from bioconvert.cli.exits import Exit
from bioconvert.cli.source import require
from bioconvert.core.errors import OptionError
from bioconvert.report.text import plural

if TYPE_CHECKING:
    from rich.console import RenderableType

    from bioconvert.cli.health import Finding


def doctor(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The folder that is to be written to.", readable=False)
    ] = Path(),
) -> Answer:
    """Check the installation, the machine and a folder.

    Versions, plugins, memory, devices, disk space, what the file system can do, what unfinished conversions
    left, and where defaults of options come from. The exit code is 1 if there is a warning.
    """
    from bioconvert.cli import health
    from bioconvert.cli.defaults import read_defaults

    require(folder)
    if not folder.is_dir():
        raise OptionError(f"{folder}: must be a folder")
    findings = (
        *health.installed(),
        *health.plugins(),
        *health.machine(),
        *health.folder(folder),
        health.settings(read_defaults(Path.cwd())),
    )
    warnings = sum(not finding.ok for finding in findings)
    return Answer(
        {
            "folder": str(folder),
            "warnings": warnings,
            "findings": [asdict(finding) for finding in findings],
        },
        lambda: _text(findings, warnings),
        Exit.FINDINGS if warnings else Exit.DONE,
    )


def _text(findings: tuple[Finding, ...], warnings: int) -> Iterator[str | RenderableType]:
    from bioconvert.report.doctor import findings_table

    yield findings_table((each.group, each.name, each.ok, each.value, each.advice) for each in findings)
    yield ""
    yield plural(warnings, "warning") if warnings else "all is well"

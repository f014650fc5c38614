"""``bioconvert rules check``: every problem of some rule files at once."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bioconvert.cli.command import Answer, describe_problems
from bioconvert.cli.exits import Exit
from bioconvert.core.errors import Problem, RuleError
from bioconvert.report.text import plural


def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Rule files.")],
) -> Answer:
    """Check rule files: all mistakes at once, with their places."""
    from bioconvert.ruleset import resolve_rules

    sound: dict[Path, int] = {}
    problems: list[Problem] = []
    for file in files:
        try:
            sound[file] = len(resolve_rules(file).rules)
        except RuleError as error:
            problems += error.problems
    return Answer(
        {
            "sound": [{"file": str(file), "rules": count} for file, count in sound.items()],
            "problems": [asdict(problem) for problem in problems],
        },
        lambda: _lines(sound, problems),
        Exit.USAGE if problems else Exit.DONE,
    )


def _lines(sound: dict[Path, int], problems: list[Problem]) -> list[str]:
    lines = [f"{file}: OK, {plural(count, 'rule')}" for file, count in sound.items()]
    return [*lines, describe_problems(problems)] if problems else lines

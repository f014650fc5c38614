"""``bioconvert schema``: the JSON Schema of a command's ``--json`` document."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from bioconvert.cli.command import Answer
from bioconvert.cli.completing import documented
from bioconvert.core.errors import OptionError


def schema(
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="COMMAND",
            help="A command, as convert or rules check; without one, all that have a schema are named.",
            autocompletion=documented,
        ),
    ] = None,
) -> Answer:
    """Print the JSON Schema of a command's --json document.

    It describes both that of an answer and that of a failure.
    """
    from bioconvert.cli.documents import document_schema, documented_commands
    from bioconvert.core.suggest import hint

    commands = documented_commands()
    if not command:
        return Answer({"commands": commands, "schema": None}, lambda: commands)
    name = " ".join(command)
    if name not in commands:
        raise OptionError(f"there is no command {name!r}. {hint(name, commands)}")
    found = document_schema(name)
    return Answer({"commands": commands, "schema": found}, lambda: [json.dumps(found, indent=2)])

"""The ``bioconvert`` command: puts the commands together and starts the one that was asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TextIO

import typer

from bioconvert.cli.command import Answer, command, failure_document
from bioconvert.cli.convert import convert
from bioconvert.cli.demo import demo
from bioconvert.cli.drift import drift
from bioconvert.cli.exits import USAGE
from bioconvert.cli.import_ import dyna, nmn
from bioconvert.cli.import_dno import dno
from bioconvert.cli.inspect import inspect
from bioconvert.cli.plan import plan
from bioconvert.cli.revert import revert
from bioconvert.cli.rules.check import check
from bioconvert.cli.rules.list import list_all
from bioconvert.cli.rules.schema import schema
from bioconvert.cli.rules.show import show_one
from bioconvert.cli.streams import show
from bioconvert.cli.verify import verify
from bioconvert.cli.version import version

COMMANDS: Mapping[str, Callable[..., Answer]] = {
    "convert": convert,
    "plan": plan,
    "inspect": inspect,
    "verify": verify,
    "drift": drift,
    "revert": revert,
    "demo": demo,
    "version": version,
}
RULES_COMMANDS: Mapping[str, Callable[..., Answer]] = {
    "list": list_all,
    "show": show_one,
    "check": check,
    "schema": schema,
}
IMPORT_COMMANDS: Mapping[str, Callable[..., Answer]] = {
    "nmn": nmn,
    "dyna": dyna,
    "dno": dno,
}
_WORDS = {*COMMANDS, "rules", *RULES_COMMANDS, "import", *IMPORT_COMMANDS}


def _group(help: str, prefix: str, commands: Mapping[str, Callable[..., Answer]]) -> typer.Typer:
    # Plain help: it starts in half the time of the boxed one and can be copied from.
    group = typer.Typer(help=help, no_args_is_help=True, add_completion=False, rich_markup_mode=None)
    for name, function in commands.items():
        group.command(name)(command(f"{prefix}{name}")(function))
    return group


app = _group("Turn an existing PyTorch model into a biologically inspired one.", "", COMMANDS)
app.add_typer(
    _group("The built-in rule sets, and rule files of your own.", "rules ", RULES_COMMANDS), name="rules"
)
app.add_typer(_group("Read the checkpoints of other systems.", "import ", IMPORT_COMMANDS), name="import")


def run() -> None:
    """Start the command line, as the script ``bioconvert`` does."""
    for stream in (sys.stdout, sys.stderr):
        _never_fail_to_print(stream)
    try:
        app(prog_name="bioconvert")
    except SystemExit as end:
        _report_usage(end)
        raise


def _never_fail_to_print(stream: TextIO) -> None:
    """Write what the terminal's encoding lacks as ``?`` instead of failing half-way through an answer."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")


def _report_usage(end: SystemExit) -> None:
    """Add the JSON document to an error of usage, which the parser reports before any command starts."""
    format_message = getattr(end.__context__, "format_message", None)
    if "--json" in sys.argv and format_message is not None:
        words = [word for word in sys.argv[1:3] if word in _WORDS]
        show([failure_document(" ".join(words), USAGE, format_message())])

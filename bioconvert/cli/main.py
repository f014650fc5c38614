"""The ``bioconvert`` command: puts the commands together and starts the one that was asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, TextIO

import typer

from bioconvert.cli.command import Answer, command, fail, failure_document
from bioconvert.cli.convert import convert
from bioconvert.cli.defaults import commands_of, default_map, read_defaults
from bioconvert.cli.demo import demo
from bioconvert.cli.diff import diff
from bioconvert.cli.doctor import doctor
from bioconvert.cli.drift import drift
from bioconvert.cli.exits import USAGE
from bioconvert.cli.explain import explain
from bioconvert.cli.export import export
from bioconvert.cli.import_ import dyna, nmn
from bioconvert.cli.import_dno import dno
from bioconvert.cli.inspect import inspect
from bioconvert.cli.plan import plan
from bioconvert.cli.report import report
from bioconvert.cli.resume import resume
from bioconvert.cli.revert import revert
from bioconvert.cli.rules.check import check
from bioconvert.cli.rules.init import init
from bioconvert.cli.rules.list import list_all
from bioconvert.cli.rules.schema import schema as rules_schema
from bioconvert.cli.rules.show import show_one
from bioconvert.cli.schema import schema
from bioconvert.cli.streams import show
from bioconvert.cli.verify import verify
from bioconvert.cli.version import version
from bioconvert.core.errors import BioconvertError
from bioconvert.version import __version__

COMMANDS: Mapping[str, Callable[..., Answer]] = {
    "convert": convert,
    "plan": plan,
    "inspect": inspect,
    "diff": diff,
    "verify": verify,
    "drift": drift,
    "revert": revert,
    "export": export,
    "report": report,
    "resume": resume,
    "explain": explain,
    "demo": demo,
    "doctor": doctor,
    "schema": schema,
    "version": version,
}
RULES_COMMANDS: Mapping[str, Callable[..., Answer]] = {
    "list": list_all,
    "show": show_one,
    "check": check,
    "schema": rules_schema,
    "init": init,
}
IMPORT_COMMANDS: Mapping[str, Callable[..., Answer]] = {
    "nmn": nmn,
    "dyna": dyna,
    "dno": dno,
}
GROUPS: Mapping[str, Mapping[str, Callable[..., Answer]]] = {
    "rules": RULES_COMMANDS,
    "import": IMPORT_COMMANDS,
}
_WORDS = {*COMMANDS, *GROUPS, *(name for group in GROUPS.values() for name in group)}


def _print_version(wanted: bool) -> None:
    if wanted:
        show([f"bioconvert {__version__}"])
        raise typer.Exit


_Version = Annotated[
    bool,
    typer.Option(
        "--version", callback=_print_version, is_eager=True, help="Print the version of bioconvert and exit."
    ),
]


def _use_defaults(context: typer.Context, *, version: _Version = False) -> None:  # noqa: ARG001 - see its callback
    """Take the defaults of options from the nearest ``pyproject.toml``, for all commands."""
    try:
        found = read_defaults(_here())
        if found.path is not None:
            commands = commands_of(context.command, {**COMMANDS, **GROUPS})
            context.default_map = default_map(found, commands)
    except (BioconvertError, OSError) as error:
        if "--help" not in sys.argv:
            raise typer.Exit(
                fail(_asked(), error, as_json="--json" in sys.argv, debug="--debug" in sys.argv)
            ) from None


def _here() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:  # it was removed in the meantime
        return Path("/")


def _group(
    help: str, prefix: str, commands: Mapping[str, Callable[..., Answer]], *, whole: bool = False
) -> typer.Typer:
    # Plain help: it starts in half the time of the boxed one and can be copied from.
    group = typer.Typer(
        help=help,
        no_args_is_help=True,
        add_completion=whole,
        rich_markup_mode=None,
        callback=_use_defaults if whole else None,
    )
    for name, function in commands.items():
        group.command(name)(command(f"{prefix}{name}")(function))
    return group


app = _group("Turn an existing PyTorch model into a biologically inspired one.", "", COMMANDS, whole=True)
app.add_typer(
    _group("The built-in rule sets, and rule files of your own.", "rules ", RULES_COMMANDS), name="rules"
)
app.add_typer(_group("Read the checkpoints of other systems.", "import ", IMPORT_COMMANDS), name="import")


def run() -> None:
    """Start the command line, as the script ``bioconvert`` does."""
    _open_what_is_closed()
    for stream in (sys.stdout, sys.stderr):
        _never_fail_to_print(stream)
    try:
        app(prog_name="bioconvert")
    except SystemExit as end:
        _report_usage(end)
        raise


def _asked() -> str:
    """Name the command on the command line, as far as it is one."""
    return " ".join(word for word in sys.argv[1:3] if word in _WORDS)


def _open_what_is_closed() -> None:
    """Give stdout and stderr a place to go where the caller closed them: Python has ``None`` there."""
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 - open as long as the process


def _never_fail_to_print(stream: TextIO) -> None:
    """Write what the terminal's encoding lacks as ``?`` instead of failing half-way through an answer."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")


def _report_usage(end: SystemExit) -> None:
    """Add the JSON document to an error of usage, which the parser reports before any command starts."""
    format_message = getattr(end.__context__, "format_message", None)
    if "--json" in sys.argv and format_message is not None:
        show([failure_document(_asked(), USAGE, format_message())])

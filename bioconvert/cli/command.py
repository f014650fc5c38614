"""What all commands share: an answer to show, as text or JSON, and failures that end in an exit code."""

from __future__ import annotations

import functools
import inspect
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import typer

from bioconvert.cli.exits import Exit, Failure, failure_of
from bioconvert.cli.options import AsJson, Debug
from bioconvert.cli.streams import note, show, words_on_stderr
from bioconvert.core.errors import Problem, RuleError
from bioconvert.report.text import finite, plural

if TYPE_CHECKING:
    from rich.console import RenderableType

SCHEMA_VERSION = 1
"""Of the ``--json`` documents; grows when a key changes its meaning or goes."""

NO_FILE = Problem("").source
"""What a problem says of its source where it has none."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command found out.

    Args:
        data: the answer as values that JSON can hold.
        text: gives the same for a reader, in the order in which it is shown; called only if it is.
        code: what the exit code says of it.
    """

    data: Mapping[str, object]
    text: Callable[[], Iterable[str | RenderableType]]
    code: Exit = Exit.DONE


def command(name: str) -> Callable[[Callable[..., Answer]], Callable[..., None]]:
    """Make a function that gives an :class:`Answer` into a command, with ``--json`` and ``--debug``."""

    def decorate(function: Callable[..., Answer]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(*, as_json: bool, debug: bool, **given: object) -> None:
            try:
                with words_on_stderr():
                    answer = function(**given)
                show([document(name, answer.data)] if as_json else answer.text())
                code = answer.code
            except BrokenPipeError:
                code = _reader_left()
            except BaseException as error:  # noqa: BLE001 - every failure ends in an exit code, ours too
                code = fail(name, error, as_json=as_json, debug=debug)
            raise typer.Exit(code)

        return _with_options(run, inspect.signature(function, eval_str=True))

    return decorate


def _with_options(run: Callable[..., None], signature: inspect.Signature) -> Callable[..., None]:
    """Let ``run`` show the signature of the function it calls and the options that every command has."""
    common = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
        for name, annotation in (("as_json", AsJson), ("debug", Debug))
    ]
    whole = signature.replace(
        parameters=[*signature.parameters.values(), *common], return_annotation=type(None)
    )
    vars(run)["__signature__"] = whole
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in whole.parameters.values()}
    return run


def document(name: str, data: Mapping[str, object]) -> str:
    """Write the one JSON document of a command."""
    return json.dumps(
        finite({"schema_version": SCHEMA_VERSION, "command": name, **data}), indent=2, allow_nan=False
    )


def failure_document(name: str, failure: Failure, message: str, problems: Iterable[Problem] = ()) -> str:
    """Write the JSON document of a command that failed."""
    error = {"kind": failure.kind, "message": message, "problems": [asdict(found) for found in problems]}
    return document(name, {"error": error})


def describe_problems(problems: Sequence[Problem]) -> str:
    """Write the problems of rule files, each with its place, and their number; others as plain errors."""
    nowhere = [problem for problem in problems if problem.source == NO_FILE]
    placed = [problem for problem in problems if problem.source != NO_FILE]
    lines = [f"error: {problem.message}" for problem in nowhere] + [str(problem) for problem in placed]
    if placed:
        files = len({problem.source for problem in placed})
        lines.append(f"{plural(len(placed), 'problem')} in {plural(files, 'file')}.")
    return "\n".join(lines)


def fail(name: str, error: BaseException, *, as_json: bool, debug: bool) -> Exit:
    """Report what went wrong, and give the exit code that it ends in."""
    failure = failure_of(error)
    problems = error.problems if isinstance(error, RuleError) else ()
    message = _message(error, failure)
    if debug:
        traceback.print_exception(error)
    note(describe_problems(problems) if problems else _line(message, failure))
    if as_json:
        show([failure_document(name, failure, message, problems)])
    return failure.code


def _line(message: str, failure: Failure) -> str:
    return message if failure.code is Exit.INTERRUPTED else f"error: {message}"


def _message(error: BaseException, failure: Failure) -> str:
    if failure.code is Exit.INTERRUPTED:
        return "interrupted"
    if failure.code is Exit.BUG:
        what = "".join(traceback.format_exception_only(error)).strip()
        return f"this is a bug in bioconvert: {what} (--debug shows the traceback; please report it)"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def _reader_left() -> Exit:
    """End quietly: whoever read the output, ``head`` for one, has seen enough."""
    # Python flushes stdout once more while it ends; there must be something to flush into.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return Exit.RESOURCES

"""What all commands share: streams, JSON documents, errors without tracebacks."""

import io
import json
import logging
import subprocess
import sys
import warnings

import pytest
import typer
from typer.testing import CliRunner

from bioconvert.cli.command import Answer, command
from bioconvert.cli.exits import Exit
from bioconvert.cli.streams import note, step
from bioconvert.core.errors import CorruptFileError, Problem, RuleError
from bioconvert.version import __version__

RULE_ERROR = RuleError(
    [
        Problem("unknown key 'attatch'", "mine.yaml", 9, 5, "attatch: []"),
        Problem("no such rule set", "mine.yaml"),
    ]
)


@pytest.fixture
def run():
    """Run a function as the command ``try``."""

    def invoke(function, *words):
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command()(command("try")(function))
        return CliRunner().invoke(app, list(words))

    return invoke


def _raising(error):
    def work() -> Answer:
        raise error

    return work


FAILURES = [
    pytest.param(CorruptFileError("a.pt: cut short"), 3, "error: a.pt: cut short\n", "corrupt", id="ours"),
    pytest.param(
        FileNotFoundError(2, "No such file", "a.pt"),
        2,
        "error: a.pt: No such file\n",
        "not-found",
        id="the system's",
    ),
    pytest.param(OSError(28, "No space left"), 4, "error: No space left\n", "io", id="without a file"),
    pytest.param(MemoryError(), 4, "error: MemoryError\n", "memory", id="without a text"),
    pytest.param(
        CorruptFileError("\x1b[31m[red]x"), 3, "error: \\x1b[31m[red]x\n", "corrupt", id="hostile text"
    ),
    pytest.param(KeyboardInterrupt(), 130, "interrupted\n", "interrupted", id="Ctrl-C"),
    pytest.param(
        KeyError("x"),
        101,
        "error: this is a bug in bioconvert: KeyError: 'x' (--debug shows the traceback; please report it)\n",
        "bug",
        id="a bug",
    ),
    pytest.param(
        RULE_ERROR,
        2,
        "mine.yaml:9:5: unknown key 'attatch'\n    attatch: []\n        ^\n"
        "mine.yaml: no such rule set\n2 problems in 1 file.\n",
        "rules",
        id="rules",
    ),
]


@pytest.mark.parametrize(("error", "code", "words", "kind"), FAILURES)
class TestFailures:
    def test_words_go_to_stderr(self, run, error, code, words, kind):
        """A failure is a line on stderr without a traceback; nothing is on stdout."""
        result = run(_raising(error))
        assert (result.exit_code, result.stdout, result.stderr) == (code, "", words)

    def test_json_has_a_document_too(self, run, error, code, words, kind):
        """With --json the failure is a document on stdout, and the words are still on stderr."""
        result = run(_raising(error), "--json")
        document = json.loads(result.stdout)
        assert (result.exit_code, result.stderr) == (code, words)
        assert (document["schema_version"], document["command"]) == (1, "try")
        assert document["error"]["kind"] == kind
        assert len(document["error"]["problems"]) == (2 if error is RULE_ERROR else 0)

    def test_debug_shows_where(self, run, error, code, words, kind):
        """With --debug the traceback stands before the words, and the code is the same."""
        result = run(_raising(error), "--debug")
        assert result.exit_code == code
        assert result.stderr.startswith("Traceback")
        assert result.stderr.endswith(words)


def test_answer_is_text_on_stdout(run):
    """Without --json the result is text, and nothing else is on stdout."""
    result = run(lambda: Answer({"n": 1}, lambda: ["one", "two\x1b"]))
    assert (result.exit_code, result.stdout, result.stderr) == (0, "one\ntwo\\x1b\n", "")


def test_answer_is_one_document(run):
    """With --json the result is one document with its version and the command's name; NaN becomes null."""
    data = {"n": [1.5, float("nan"), float("-inf")], "name": "\x1b→"}
    result = run(lambda: Answer(data, lambda: ["text"], Exit.FINDINGS), "--json")
    assert result.exit_code == 1
    assert result.stdout.isascii()
    assert json.loads(result.stdout) == {
        "schema_version": 1,
        "command": "try",
        "n": [1.5, None, None],
        "name": "\x1b→",
    }


def test_whatever_the_work_says_goes_to_stderr(run):
    """Prints, notes, logged warnings, Python's warnings and steps leave stdout to the result."""

    def work() -> Answer:
        print("from the user's model")
        note("noted")
        logging.getLogger("bioconvert").warning("left out %d", 2)
        logging.getLogger("bioconvert").info("not shown")
        with step("working"):
            pass
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("old", UserWarning, stacklevel=1)
        return Answer({}, lambda: ["result"])

    result = run(work)
    assert result.stdout == "result\n"
    assert result.stderr.splitlines() == [
        "from the user's model",
        "noted",
        "warning: left out 2",
        "working …",
        "warning: old",
    ]


def test_logging_is_left_as_it_was(run):
    """A command leaves no handler behind, even if it fails."""
    before = list(logging.getLogger("bioconvert").handlers)
    run(_raising(KeyError("x")))
    assert logging.getLogger("bioconvert").handlers == before


def test_options_of_the_command_stay(run):
    """A command's own arguments stand beside --json and --debug in its help."""

    def work(path: str, *, deep: bool = False) -> Answer:
        return Answer({"path": path, "deep": deep}, list)

    assert json.loads(run(work, "a", "--deep", "--json").stdout)["deep"] is True
    help_text = run(work, "--help").stdout
    assert [word for word in ("path", "--deep", "--json", "--debug") if word not in help_text] == []


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        """Say so."""
        return True


def test_step_is_a_spinner_on_a_terminal(monkeypatch):
    """On a terminal a step is drawn and taken away again; what is said meanwhile stays, markup is text."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    with step("reading [red]a.pt"):
        note("left out 2")
    drawn = terminal.getvalue()
    assert "reading [red]a.pt …" in drawn
    assert "left out 2" in drawn
    assert drawn.rstrip().endswith("\x1b[2K")


@pytest.mark.parametrize("closed", ["2>&-", ">&-", ">&- 2>&-"])
def test_closed_streams_take_nothing_away(closed, tmp_path):
    """A command whose caller closed stdout or stderr does its work, and words stay out of the result."""
    run = f"{sys.executable} -m bioconvert rules init rules.yaml --json {closed}"
    done = subprocess.run(["/bin/sh", "-c", run], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "rules.yaml").is_file()
    assert json.loads(done.stdout or '{"file": "rules.yaml"}')["file"] == "rules.yaml"


def test_words_have_nowhere_to_go_but_stderr(tmp_path):
    """Where stderr is closed, notes are lost and don't come to stand in the result."""
    run = f"{sys.executable} -m bioconvert rules show nope --json 2>&-"
    done = subprocess.run(["/bin/sh", "-c", run], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["kind"] == "rules"


def test_version_is_an_option_too(bioconvert):
    """``--version`` prints one line, whatever else the command line says."""
    ran = bioconvert("--version")
    assert (ran.code, ran.out) == (0, f"bioconvert {__version__}\n")

"""How the command line starts: help that fits, and no torch where none is needed."""

import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from bioconvert.cli.main import COMMANDS, GROUPS

HEAVY = ("torch", "numpy", "transformers")
"""Packages whose import takes longer than everything else together."""
NAMES = [*COMMANDS, *(f"{group} {name}" for group, commands in GROUPS.items() for name in commands)]

LIGHT = [
    pytest.param(["--help"], id="help"),
    pytest.param(["convert", "--help"], id="help of a command"),
    pytest.param(["version"], id="version"),
    pytest.param(["rules", "list"], id="rules list"),
    pytest.param(["rules", "check", "mine.yaml"], id="rules check"),
    pytest.param(["rules", "schema"], id="rules schema"),
    pytest.param(["rules", "init", "new.yaml"], id="rules init"),
    pytest.param(["inspect", "model.safetensors"], id="inspect"),
    pytest.param(["diff", "model.safetensors", "model.safetensors", "--structure"], id="diff --structure"),
    pytest.param(["explain", "YatLinear"], id="explain"),
    pytest.param(["explain", "crystallize", "--json"], id="explain a mechanism"),
    pytest.param(["schema", "convert"], id="schema"),
    pytest.param(["doctor", "--help"], id="help of doctor"),
]


@pytest.mark.parametrize("words", LIGHT)
def test_starts_without_torch(tmp_path, process, words):
    """What needs no model is done without importing torch."""
    (tmp_path / "mine.yaml").write_text(
        "version: 1\nname: mine\nrules:\n  - match: {type: [Linear]}\n    replace: {with: YatLinear}\n"
    )
    save_file({"weight": np.zeros((2, 2), np.float32)}, tmp_path / "model.safetensors")
    ran = process(*words, python=["-X", "importtime"])
    imported = {line.rpartition("|")[2].strip() for line in ran.err.splitlines()}
    assert ran.code == 0, ran.err[-500:]
    assert "bioconvert.cli.main" in imported
    assert imported.isdisjoint(HEAVY)


def test_values_are_compared_without_torch(tmp_path, process):
    """Only checkpoints of torch's own formats need torch to be compared."""
    save_file({"weight": np.zeros((2, 2), np.float32)}, tmp_path / "a.safetensors")
    save_file({"weight": np.ones((2, 2), np.float32)}, tmp_path / "b.safetensors")
    ran = process("diff", "a.safetensors", "b.safetensors", python=["-X", "importtime"])
    assert ran.code == 1, ran.err[-500:]
    assert "torch" not in {line.rpartition("|")[2].strip() for line in ran.err.splitlines()}


PAGES = [[], *([group] for group in GROUPS), *(name.split() for name in NAMES)]


@pytest.mark.parametrize("words", PAGES, ids=" ".join)
def test_help_fits_80_columns(bioconvert, words):
    """Every page of help has a description and no line longer than a terminal."""
    ran = bioconvert(*words, "--help")
    assert ran.code == 0
    assert ran.out.startswith("Usage: ")
    assert max(map(len, ran.out.splitlines())) <= 80
    assert "..." not in ran.out.partition("Commands:")[2]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_json_and_debug(bioconvert, name):
    """--json and --debug are options of each command."""
    text = bioconvert(*name.split(), "--help").out
    assert "--json" in text
    assert "--debug" in text


USAGE = [
    pytest.param(["convrt"], "No such command 'convrt'. Did you mean 'convert'?", id="a command"),
    pytest.param(["version", "--jsn"], "No such option: --jsn", id="an option"),
    pytest.param(["verify"], "Missing argument 'DIR'", id="an argument"),
    pytest.param(["plan", "x", "-r", "yat", "--seed", "one"], "Invalid value for '--seed'", id="a value"),
]


@pytest.mark.parametrize(("words", "text"), USAGE)
def test_wrong_usage(process, words, text):
    """A mistyped line is explained on stderr, leaves stdout empty and ends in 2."""
    ran = process(*words)
    assert (ran.code, ran.out) == (2, "")
    assert text in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wrong", ["--bogus", "--seed=one", "--out", "--json=3", "\x1b[31m", "-"])
def test_no_wrong_argument_ends_in_a_traceback(bioconvert, name, wrong):
    """Whatever stands in place of an argument, no command fails by a bug or shows a traceback."""
    ran = bioconvert(*name.split(), wrong)
    assert ran.code in (0, 1, 2, 3, 4) if wrong in ("-", "\x1b[31m") else ran.code == 2, ran.err
    assert "Traceback" not in ran.err
    assert "\x1b" not in ran.out + ran.err


def test_wrong_usage_has_a_document(process):
    """With --json an error of usage is a document on stdout too."""
    ran = process("rules", "check", "--json", "--bogus")
    assert ran.code == 2
    assert ran.document == {
        "schema_version": 1,
        "command": "rules check",
        "error": {"kind": "usage", "message": "No such option: --bogus", "problems": []},
    }


def test_version_names_what_is_installed(bioconvert):
    """The versions of bioconvert, Python and torch are printed, and are in the document."""
    document = bioconvert("version", "--json").document
    assert set(document) == {"schema_version", "command", "bioconvert", "python", "torch"}
    lines = bioconvert("version").out.splitlines()
    assert lines == [f"{name} {document[name]}" for name in ("bioconvert", "python", "torch")]


def test_reader_may_leave(process, tmp_path):
    """A pipe that closes early, as that of head does, ends the command without an error text."""
    line = f"{sys.executable} -m bioconvert rules schema | head -c 1"
    done = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("{", "")


def test_terminal_without_unicode(process):
    """Where the terminal's encoding lacks a character, another stands for it; nothing fails."""
    ran = process("rules", "list", env={"PYTHONIOENCODING": "ascii"})
    assert ran.code == 0
    assert ran.out.isascii()

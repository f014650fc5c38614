"""The --json documents of all commands: each is as its published schema says, and so is each failure."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import bioconvert as bc
from bioconvert.cli.documents import document_schema, documented_commands
from bioconvert.cli.main import COMMANDS, GROUPS

NAMES = [*COMMANDS, *(f"{group} {name}" for group, commands in GROUPS.items() for name in commands)]
RULES = {
    "version": 1,
    "name": "mine",
    "rules": [{"match": {"path": "0"}, "replace": {"with": "YatLinear"}, "attach": ["l1"]}],
}
CODE = """\
from torch import nn


def net():
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
"""
ARCH = ("--arch", "documented_net:net")
CONVERT = ("net.safetensors", *ARCH, "--rules", "mine.yaml")
SUCCESSES = [
    pytest.param("convert", (*CONVERT, "--out", "new", "--input-shape", "2,4"), 0, id="convert"),
    pytest.param("convert", (*CONVERT, "--dry-run"), 0, id="convert --dry-run"),
    pytest.param("plan", CONVERT, 0, id="plan"),
    pytest.param("inspect", ("net.safetensors",), 0, id="inspect"),
    pytest.param("inspect", ("done",), 0, id="inspect a converted folder"),
    pytest.param("diff", ("done", "done"), 0, id="diff of equals"),
    pytest.param("diff", ("net.safetensors", "other.safetensors"), 1, id="diff"),
    pytest.param("diff", ("net.safetensors", "done", "--structure"), 1, id="diff --structure"),
    pytest.param("verify", ("done",), 0, id="verify"),
    pytest.param("verify", ("damaged",), 1, id="verify what is damaged"),
    pytest.param("drift", ("done", "--input-shape", "2,4"), 0, id="drift"),
    pytest.param("revert", ("done", "--out", "back"), 0, id="revert"),
    pytest.param("export", ("pt", "done", "--out", "done.pt"), 0, id="export"),
    pytest.param("report", ("done", "--format", "mermaid"), 0, id="report"),
    pytest.param("resume", ("done",), 0, id="resume"),
    pytest.param("explain", ("**", *CONVERT), 0, id="explain modules"),
    pytest.param("explain", ("YatLinear",), 0, id="explain a name"),
    pytest.param("doctor", (), None, id="doctor"),
    pytest.param("schema", (), 0, id="schema"),
    pytest.param("schema", ("rules", "check"), 0, id="schema of a command"),
    pytest.param("version", (), 0, id="version"),
    pytest.param("rules list", (), 0, id="rules list"),
    pytest.param("rules show", ("yat",), 0, id="rules show"),
    pytest.param("rules check", ("mine.yaml",), 0, id="rules check"),
    pytest.param("rules check", ("wrong.yaml",), 2, id="rules check of a wrong file"),
    pytest.param("rules schema", (), 0, id="rules schema"),
    pytest.param("rules init", ("begun.yaml",), 0, id="rules init"),
]
ELSEWHERE = {"demo", "import nmn", "import dyna", "import dno"}
"""Commands whose own tests run them; there, too, each document is checked."""
FAILURES = [
    pytest.param("convert", ("nothing.pt", "--rules", "yat", "--out", "new"), "not-found", id="convert"),
    pytest.param("plan", ("net.safetensors", "--rules", "nosuch"), "rules", id="plan"),
    pytest.param("inspect", ("text.safetensors",), "corrupt", id="inspect"),
    pytest.param("diff", ("net.safetensors", "nothing"), "not-found", id="diff"),
    pytest.param("verify", ("nothing",), "not-found", id="verify"),
    pytest.param("drift", ("done",), "option", id="drift"),
    pytest.param("revert", ("done", "--out", "done"), "target", id="revert"),
    pytest.param("export", ("onnx", "done", "--out", "x.onnx"), "option", id="export"),
    pytest.param("report", ("nothing",), "not-found", id="report"),
    pytest.param("resume", ("nothing",), "option", id="resume"),
    pytest.param("explain", ("nosuch",), "option", id="explain"),
    pytest.param("doctor", ("nothing",), "not-found", id="doctor"),
    pytest.param("demo", ("--out", "done"), "target", id="demo"),
    pytest.param("schema", ("nosuch",), "option", id="schema"),
    pytest.param("rules show", ("nosuch",), "rules", id="rules show"),
    pytest.param("rules init", ("mine.yaml",), "target", id="rules init"),
    pytest.param("import nmn", ("nothing", "--out", "new"), "not-found", id="import nmn"),
    pytest.param("import dyna", ("nothing", "--out", "new"), "not-found", id="import dyna"),
    pytest.param("import dno", ("nothing", "--out", "new"), "not-found", id="import dno"),
]
NEVER_FAIL = {"version", "rules list", "rules schema", "rules check"}
"""They have nothing to fail at but the command line itself; rules check reports problems as its answer."""


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Checkpoints, rules and a converted folder in the working directory."""
    (tmp_path / "documented_net.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine.yaml").write_text(json.dumps(RULES))
    (tmp_path / "wrong.yaml").write_text("version: 1\nname: x\nruls: []\n")
    (tmp_path / "text.safetensors").write_text("this is no checkpoint, only text")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    save_file(model.state_dict(), tmp_path / "net.safetensors")
    save_file({"0.weight": torch.ones(4, 4), "new": torch.ones(1)}, tmp_path / "other.safetensors")
    bc.convert(model, RULES)
    for name in ("done", "damaged"):
        bc.save(model, tmp_path / name, arch="documented_net:net")
    weights = tmp_path / "damaged" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")


def _commands(table):
    return {each.values[0] for each in table}


def test_every_command_has_a_schema():
    """There is a schema for each command, and none for what is no command."""
    assert set(documented_commands()) == set(NAMES)


def test_every_command_is_tried():
    """Each command stands in the table of successes and in that of failures, or it is said why not."""
    assert _commands(SUCCESSES) | ELSEWHERE == set(NAMES)
    assert _commands(FAILURES) | NEVER_FAIL == set(NAMES)


@pytest.mark.parametrize(("command", "words", "code"), SUCCESSES)
def test_answers_are_as_documented(bioconvert, files, command, words, code):
    """What a command prints is the document of its schema, with an answer and no error."""
    ran = bioconvert(*command.split(), *words, "--json")
    assert code is None or ran.code == code, ran.err
    assert ran.document["command"] == command
    assert "error" not in ran.document


@pytest.mark.parametrize(("command", "words", "kind"), FAILURES)
def test_failures_are_as_documented(bioconvert, files, command, words, kind):
    """A failure is one document, with the kind of the error, and the code that belongs to it."""
    ran = bioconvert(*command.split(), *words, "--json")
    assert ran.document["error"]["kind"] == kind
    assert ran.code == (3 if kind == "corrupt" else 2)
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("command", NAMES)
def test_schemas_are_strict(command):
    """No key that isn't documented passes, neither in an answer nor in a failure."""
    schema = document_schema(command)["$defs"]
    assert schema["success"]["unevaluatedProperties"] is False
    assert schema["failure"]["additionalProperties"] is False


def test_schema_command_names_what_there_is(bioconvert):
    """Without a command all are named, one a line."""
    assert bioconvert("schema").out.splitlines() == sorted(NAMES)
    assert json.loads(bioconvert("schema", "rules", "check").out) == document_schema("rules check")
    assert "Did you mean 'convert'?" in bioconvert("schema", "convrt").err

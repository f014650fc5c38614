"""Commands run as a user runs them, in this process or in one of their own."""

import functools
import json
import os
import subprocess
import sys
from dataclasses import dataclass

import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from bioconvert.cli.documents import document_schema, documented_commands
from bioconvert.cli.main import app


@functools.cache
def validator_of(command):
    """Give what checks the documents of a command."""
    schema = document_schema(command)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@dataclass(frozen=True)
class Ran:
    """What a command gave."""

    code: int
    out: str
    err: str

    @property
    def document(self):
        """The one JSON document on stdout, which is as the command's schema says."""
        found = json.loads(self.out)
        if found["command"] in documented_commands():
            validator_of(found["command"]).validate(found)
        return found


@pytest.fixture
def bioconvert(tmp_path, monkeypatch):
    """Run a command in this process, in an empty working directory and an 80-column terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def run(*words):
        result = CliRunner().invoke(app, [str(word) for word in words])
        return Ran(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def script(tmp_path):
    """Run Python code in a process of its own."""

    def run(*words, env=None):
        environment = {**os.environ, "COLUMNS": "80", **(env or {})}
        done = subprocess.run(
            [sys.executable, *map(str, words)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def process(script):
    """Run ``python -m bioconvert`` in a process of its own."""

    def run(*words, python=(), env=None):
        return script(*python, "-m", "bioconvert", *words, env=env)

    return run

"""The command reference in README.md."""

import re
from importlib.metadata import version
from pathlib import Path

import pytest
from command_reference import EXAMPLES, NAMES, README, parsed, replaced

CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"
MADE_WITH = re.search(r"^typer==(.*)$", CONSTRAINTS.read_text(), re.MULTILINE)[1]


@pytest.mark.skipif(version("typer") != MADE_WITH, reason=f"typer {MADE_WITH} lays out the help of README.md")
def test_readme_has_the_help_of_every_command():
    """It is what the commands say of themselves; python -m tests.support.command_reference writes it."""
    text = README.read_text(encoding="utf-8")
    assert replaced(text) == text, "run: python -m tests.support.command_reference"


def test_every_command_has_an_example():
    """Each command, and no other, has an example and its exit codes."""
    assert list(EXAMPLES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_examples_are_calls_of_their_command(name):
    """The command line takes the example as it stands."""
    assert " ".join(parsed(name)).startswith(name)

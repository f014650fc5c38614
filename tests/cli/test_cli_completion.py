"""What the shell completes."""

import pytest
from safetensors.numpy import save_file

WORDS = [
    pytest.param("bioconvert in", "inspect", id="a command"),
    pytest.param("bioconvert plan --rules yat-c", "yat-cnn", id="a rule set"),
    pytest.param("bioconvert plan --rules min", "mine.yaml", id="a rule file"),
    pytest.param("bioconvert plan --arch torchv", "torchvision:", id="a kind of architecture"),
    pytest.param("bioconvert rules show plas", "plastic", id="a rule set to show"),
    pytest.param("bioconvert rules init --from da", "dale", id="a rule set to extend"),
    pytest.param("bioconvert explain cryst", "crystallize", id="a mechanism"),
    pytest.param("bioconvert schema vers", "version", id="a documented command"),
]


@pytest.mark.parametrize(("line", "expected"), WORDS)
def test_completes(process, tmp_path, line, expected):
    """The one thing that begins so is completed."""
    (tmp_path / "mine.yaml").write_text("")
    env = {"_BIOCONVERT_COMPLETE": "complete_bash", "COMP_WORDS": line}
    ran = process(env={**env, "COMP_CWORD": str(line.count(" "))})
    assert ran.out.split() == [expected]


def test_shells_can_be_set_up(process):
    """The script for a shell is shown by an option."""
    ran = process(env={"_BIOCONVERT_COMPLETE": "source_bash"})
    assert "complete -o default -F _bioconvert_completion bioconvert" in ran.out


def test_modules_of_a_checkpoint(tmp_path):
    """Modules are completed from the header of a checkpoint that stands on the line."""
    import numpy as np
    import typer

    from bioconvert.cli.completing import explained
    from bioconvert.cli.main import app

    save_file({"stem.conv.weight": np.zeros(1, np.float32)}, tmp_path / "net.safetensors")
    context = typer.Context(typer.main.get_command(app))
    context.params["checkpoint"] = tmp_path / "net.safetensors"
    assert explained(context, "stem") == ["stem.conv"]
    context.params["checkpoint"] = tmp_path / "nothing.pt"
    assert explained(context, "stem") == []

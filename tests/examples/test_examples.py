"""The scripts that newcomers copy."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

SAID = {
    "convert_a_model.py": ["replace", "YatLinear", "relative", "loss after 20 steps", "Linear"],
    "morph_while_training.py": ["at step 0 equal outputs:     True", "finalized:", "YatLinear"],
    "write_a_rule_file.py": ["hidden.0", "mine.yaml:13:", "Did you mean 'YatLinear'?"],
    "train_with_plasticity.py": [
        "equal outputs: True",
        "bound to the optimizer, loss: 0.",
        "called in the loop, loss: 0.",
        "moved, in units of alone:",
    ],
    "growing_organism.py": [
        "steps after the change: entropy rose above 2 times its baseline",
        "learned by  then   now     kept  surest of them",
        "of at most 70,000",
        "└ features+2  expert_2",
        "growing_organism.svg",
    ],
    "save_and_load.py": ["bioconvert.json", "model.safetensors", "equal outputs: True"],
}


def test_every_example_is_run():
    """No example is without a row here."""
    assert {path.name for path in EXAMPLES.glob("*.py")} == SAID.keys()


@pytest.mark.parametrize("name", SAID)
def test_example_runs(capsys, name):
    """An example runs as it stands and prints what it promises."""
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    out = capsys.readouterr().out
    assert [text for text in SAID[name] if text not in out] == []

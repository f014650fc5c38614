"""The demo: train, convert, train on."""

import sys

import pytest
import torch

import bioconvert as bc
from bioconvert.cli import demo as demo_module
from bioconvert.cli.demo_model import DigitsCNN


@pytest.fixture
def short(monkeypatch):
    """Train for a moment only."""
    monkeypatch.setattr(demo_module, "EPOCHS", 2)
    monkeypatch.setattr(demo_module, "FINE_TUNING_EPOCHS", 1)


def test_demo_shows_commands_plan_accuracy_and_files(bioconvert, tmp_path, short):
    """The demo prints the commands that it runs, what they say, three accuracies, and where the files are."""
    ran = bioconvert("demo", "--out", "demo")
    assert ran.code == 0, ran.err
    assert "$ bioconvert plan demo/digits.pt --arch bioconvert.cli.demo_model:DigitsCNN \\\n" in ran.out
    assert "$ bioconvert convert demo/digits.pt" in ran.out
    assert "block{1,2}.0" in ran.out
    assert [
        name for name in ("as trained", "converted, 1 epoch later", "demo/converted") if name not in ran.out
    ] == []
    assert max(map(len, ran.out.splitlines())) <= 80
    assert type(bc.load(tmp_path / "demo" / "fine-tuned").block1[0]).__name__ == "YatConv2d"


def test_demo_is_a_function_of_its_seed(bioconvert, tmp_path, short):
    """The same seed gives the same document and the same weights; the demo may run again in its folder."""
    one = bioconvert("demo", "--seed", "3", "--json").document
    weights = torch.load(tmp_path / "demo-out" / "digits.pt")
    two = bioconvert("demo", "--seed", "3", "--json").document
    again = torch.load(tmp_path / "demo-out" / "digits.pt")
    assert one == two
    assert set(one["accuracy"]) == {"trained", "converted", "fine_tuned"}
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def test_folder_of_other_things_is_left_alone(bioconvert, tmp_path):
    """A folder with files that aren't the demo's is refused and stays as it is."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("important")
    ran = bioconvert("demo", "--out", "mine")
    assert ran.code == 2
    assert "--out" in ran.err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_missing_scikit_learn_is_explained(bioconvert, tmp_path, monkeypatch):
    """Without scikit-learn the error says what to install, and no folder is made."""
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    ran = bioconvert("demo")
    assert (ran.code, ran.out) == (2, "")
    assert "pip install 'torch-bioconvert[demo]'" in ran.err
    assert list(tmp_path.iterdir()) == []


def test_network_gives_ten_scores():
    """The demo's network scores ten digits for each image."""
    assert DigitsCNN()(torch.zeros(3, 1, 8, 8)).shape == (3, 10)

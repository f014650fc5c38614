"""Fitting the new layers to samples from a file."""

import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import bioconvert as bc
from bioconvert.cli.demo_model import DigitsCNN
from bioconvert.cli.inputs import BATCH, samples

ARCH = "bioconvert.cli.demo_model:DigitsCNN"
X = torch.rand(150, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def checkpoint(tmp_path):
    """A state dict of the small network, in a file."""
    torch.manual_seed(0)
    path = tmp_path / "digits.pt"
    torch.save(DigitsCNN().state_dict(), path)
    return path


WRITERS = [
    pytest.param("data.safetensors", lambda path: save_file({"x": X}, path), id="safetensors"),
    pytest.param("data.npz", lambda path: np.savez(path, x=X.numpy()), id="npz"),
    pytest.param("data.pt", lambda path: torch.save(X, path), id="pt"),
]


@pytest.mark.parametrize(("name", "write"), WRITERS)
def test_is_what_python_does(bioconvert, checkpoint, name, write):
    """The folder holds the model that `calibration=` gives, whatever the file's format."""
    write(checkpoint.parent / name)
    ran = bioconvert("convert", checkpoint, "--arch", ARCH, "-r", "yat", "-o", "out", "--calibration", name)
    assert ran.code == 0, ran.err
    twin = DigitsCNN()
    twin.load_state_dict(torch.load(checkpoint))
    bc.convert(twin, "yat", calibration=list(X.split(BATCH)), example_inputs=(X[:BATCH],))
    found, expected = bc.load(checkpoint.parent / "out").state_dict(), twin.state_dict()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_progress_is_told_line_by_line(bioconvert, checkpoint):
    """Away from a terminal there is a line for each layer, on stderr; the drift is measured by itself."""
    torch.save(X, checkpoint.parent / "data.pt")
    ran = bioconvert(
        "convert", checkpoint, "--arch", ARCH, "-r", "yat", "-o", "o", "--calibration", "data.pt"
    )
    told = re.findall(r"calibrating: (\d+) of (\d+)", ran.err)
    assert told[0][0] == "0"
    assert told[-1][0] == told[-1][1]
    assert "calibrating" not in ran.out
    assert "drift of the output" in ran.out


def test_the_plan_says_it(bioconvert, checkpoint):
    """`plan --calibration` shows that layers will be calibrated, and changes nothing."""
    torch.save(X, checkpoint.parent / "data.pt")
    words = ("plan", checkpoint, "--arch", ARCH, "-r", "yat", "--calibration", "data.pt", "--json")
    applied = bioconvert(*words).document["plan"]["applied"]
    assert all("calibrated on samples" in entry["reason"] for entry in applied)
    assert applied


BAD = [
    pytest.param(lambda path: None, 2, "data.pt", id="no such file"),
    pytest.param(lambda path: path.write_bytes(b""), 3, "data.pt", id="empty"),
    pytest.param(lambda path: torch.save(X[:0], path), 2, "holds no samples", id="no samples"),
    pytest.param(lambda path: torch.save(X[:, 0, 0, 0], path), 2, "fails on", id="the wrong shape"),
]


@pytest.mark.parametrize(("write", "code", "text"), BAD)
def test_what_can_not_be_used(bioconvert, checkpoint, write, code, text):
    """A file without samples that the model takes is named, and nothing is written."""
    write(checkpoint.parent / "data.pt")
    ran = bioconvert(
        "convert", checkpoint, "--arch", ARCH, "-r", "yat", "-o", "o", "--calibration", "data.pt"
    )
    assert ran.code == code, ran.err
    assert text in ran.err
    assert not (checkpoint.parent / "o").exists()


class Masked(nn.Module):
    """Takes samples, a mask for each, and a table for all."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x, mask, table):
        return x


def test_samples_are_cut_into_batches(tmp_path):
    """What is as long as the first tensor is cut with it; the rest belongs to each batch."""
    save_file({"x": torch.zeros(150, 3), "mask": torch.ones(150), "table": torch.ones(7)}, tmp_path / "data")
    batches = samples(tmp_path / "data", None, seed=0).batches(Masked())
    assert [batch["x"].shape[0] for batch in batches] == [64, 64, 22]
    assert [batch["mask"].shape[0] for batch in batches] == [64, 64, 22]
    assert {batch["table"].shape[0] for batch in batches} == {7}

"""Pickles that would run a command run nothing, in any format that has a pickle in it."""

import argparse

import pytest
import torch
from checkpoint_samples import Canary
from hostile_samples import RUNS_CODE

from bioconvert.checkpoint import read_checkpoint
from bioconvert.checkpoint.files.needs_code import NeedsCodeError


@pytest.mark.parametrize("form", RUNS_CODE)
def test_nothing_is_run(tmp_path, form):
    """What would run a command is refused by name, with the flag that would allow it, and isn't run."""
    canary = Canary(tmp_path / "canary")
    path = RUNS_CODE[form](tmp_path, canary)
    with pytest.raises(NeedsCodeError, match=r"Nothing was run.* --unsafe-pickle") as caught:
        read_checkpoint(path)
    assert not canary.path.exists()
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)


def test_an_unknown_call_is_refused_beside_harmless_values(tmp_path):
    """Values that are read by stand-ins don't open the door for others."""
    canary = Canary(tmp_path / "canary")
    args = argparse.Namespace(lr=0.1, hook=canary)
    torch.save({"state_dict": {"a": torch.ones(1)}, "args": args}, tmp_path / "x.pt")
    with pytest.raises(NeedsCodeError, match=r"wants posix\.system\."):
        read_checkpoint(tmp_path / "x.pt")
    assert not canary.path.exists()

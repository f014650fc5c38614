"""What a conversion means: nothing but what the rules say, the same every time."""

import hashlib

import pytest
import torch
from safetensors.torch import load_file, save_file
from streamed_models import Blocks

import bioconvert as bc

ARCH = ("--arch", "streamed_models:Blocks")


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint of tensors of several kinds, among them a subnormal number, NaN and infinity."""
    path = tmp_path / "model.safetensors"
    torch.manual_seed(0)
    state = {name: tensor.clone() for name, tensor in Blocks().state_dict().items()}
    state["head.bias"][:3] = torch.tensor([float("nan"), float("-inf"), 1e-42])
    save_file(state, path)
    return path


def digests(folder):
    """Give the hash of each file of a folder."""
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def raw(tensor):
    """Give the bytes of a tensor."""
    return tensor.reshape(-1).view(torch.uint8)


def test_rules_that_change_nothing_keep_every_bit(bioconvert, checkpoint, tmp_path):
    """With empty rules every tensor of the source is in the result, bit for bit."""
    assert bioconvert("convert", checkpoint, *ARCH, "-r", "identity", "-o", tmp_path / "out").code == 0
    before, after = load_file(checkpoint), load_file(tmp_path / "out" / "model.safetensors")
    tied = {"words.weight", "head.weight"}
    assert before.keys() - after.keys() <= tied
    assert after.keys() <= before.keys()
    assert all(raw(before[name]).equal(raw(after[name])) for name in after)


@pytest.mark.parametrize("rules", ["yat", "plastic", "dynamic"])
def test_plan_is_what_happens(bioconvert, checkpoint, tmp_path, rules):
    """What ``plan`` says applied or skipped is what ``convert`` reports."""
    planned = bioconvert("plan", checkpoint, *ARCH, "-r", rules, "--json").document["plan"]
    done = bioconvert("convert", checkpoint, *ARCH, "-r", rules, "-o", tmp_path / "out", "--json")
    report = done.document["report"]
    assert report["applied"] == planned["applied"]
    assert report["skipped"] == planned["skipped"]


@pytest.mark.slow
def test_the_same_input_gives_the_same_bytes_in_any_process(process, checkpoint, tmp_path):
    """Neither the seed of Python's hashes nor the number of threads nor streaming decides a byte."""
    ways = [("0", "1", "--no-stream"), ("1", "2", "--no-stream"), ("12345", "1", "--stream")]
    for number, (hashes, threads, option) in enumerate(ways):
        words = ("convert", checkpoint, *ARCH, "-r", "plastic", "-r", "yat", "-o", tmp_path / str(number))
        support = str(bc.__path__[0]) + "/../tests/support"
        env = {"PYTHONHASHSEED": hashes, "OMP_NUM_THREADS": threads, "PYTHONPATH": support}
        assert process(*words, option, env=env).code == 0
    assert digests(tmp_path / "0") == digests(tmp_path / "1") == digests(tmp_path / "2")


def test_values_that_are_not_finite_are_counted(bioconvert, checkpoint, tmp_path):
    """``convert`` and ``inspect`` say how many values of which tensors are NaN or infinite."""
    words = ("convert", checkpoint, *ARCH, "-r", "identity", "-o")
    assert bioconvert(*words, tmp_path / "a", "--json").document["non_finite"] == {"head.bias": 2}
    assert "warning: not finite are 2 values of head.bias" in bioconvert(*words, tmp_path / "b").out
    assert bioconvert("inspect", tmp_path / "a", "--json").document["non_finite"] == {"head.bias": 2}
    assert "2 values of head.bias" in bioconvert("inspect", tmp_path / "a").out
    assert bioconvert("inspect", checkpoint, "--json").document["non_finite"] is None

"""What inspect says of checkpoints of every kind."""

import json
import os

import pytest
import torch
from safetensors.torch import save_file

STATE = {
    **{f"h.{i}.attn.weight": torch.zeros(4, 4) for i in range(12)},
    **{f"h.{i}.attn.bias": torch.zeros(4) for i in range(12)},
    "step": torch.tensor(3),
}


def _single(folder):
    save_file(STATE, folder / "model.safetensors")
    return folder / "model.safetensors"


def _sharded(folder):
    names = sorted(STATE)
    for number, part in enumerate((names[:9], names[9:])):
        save_file({name: STATE[name] for name in part}, folder / f"part-{number}.safetensors")
    weight_map = {name: f"part-{int(names.index(name) >= 9)}.safetensors" for name in names}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return index


def _pickled(folder):
    torch.save({"state_dict": STATE, "epoch": 3}, folder / "model.pt")
    return folder / "model.pt"


KINDS = [
    pytest.param(_single, "safetensors", 1, id="safetensors"),
    pytest.param(_sharded, "sharded safetensors", 2, id="shards"),
    pytest.param(_pickled, "torch zip", 1, id="torch"),
]


@pytest.mark.parametrize(("write", "kind", "files"), KINDS)
class TestKinds:
    def test_document(self, bioconvert, tmp_path, write, kind, files):
        """Format, files, types, sizes and every tensor are in the document."""
        document = bioconvert("inspect", write(tmp_path), "--json").document
        assert (document["format"], len(document["files"])) == (kind, files)
        assert document["values"] == 12 * 20 + 1
        assert document["bytes"] == 12 * 80 + 8
        assert document["dtypes"] == {"F32": 24, "I64": 1}
        assert {tensor["name"] for tensor in document["tensors"]} == STATE.keys()
        assert document["conversion"] is None

    def test_repeated_blocks_are_folded(self, bioconvert, tmp_path, write, kind, files):
        """Twelve equal blocks are one line of the tree."""
        ran = bioconvert("inspect", write(tmp_path))
        assert ran.code == 0
        assert "{0..11}.attn  12 × 20  " in ran.out
        assert ran.out.count("attn") == 1
        assert max(map(len, ran.out.splitlines())) <= 80


def test_names_are_in_the_order_of_their_numbers(bioconvert, tmp_path):
    """Block 2 comes before block 10."""
    document = bioconvert("inspect", _single(tmp_path), "--json").document
    names = [tensor["name"] for tensor in document["tensors"] if tensor["name"].endswith("bias")]
    assert names == [f"h.{i}.attn.bias" for i in range(12)]


def test_depth_limits_the_tree(bioconvert, tmp_path):
    """With --depth 1 only the first level of names is shown."""
    assert "attn" not in bioconvert("inspect", _single(tmp_path), "--depth", "1").out


def test_hostile_names_are_text(bioconvert, tmp_path):
    """ESC and markup in a tensor's name are shown as text."""
    save_file({"\x1b[31m[red]x.weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    ran = bioconvert("inspect", "model.safetensors")
    assert r"\x1b[31m[red]x" in ran.out
    assert "\x1b" not in ran.out + ran.err


BROKEN = [
    pytest.param(b"", 3, "empty", id="empty"),
    pytest.param(b"<!DOCTYPE html><html>", 3, "web page", id="a web page"),
    pytest.param(b"version https://git-lfs.github.com/spec/v1\n", 3, "git-LFS", id="an LFS pointer"),
    pytest.param((1 << 62).to_bytes(8, "little") + b"{}", 3, "model", id="an absurd header"),
    pytest.param(b"\x10\0\0\0\0\0\0\0{}", 3, "model", id="cut short"),
]


@pytest.mark.parametrize(("content", "code", "text"), BROKEN)
def test_broken_file(bioconvert, tmp_path, content, code, text):
    """What is no checkpoint ends in 3 and a line that names the file."""
    (tmp_path / "model.safetensors").write_bytes(content)
    ran = bioconvert("inspect", "model.safetensors")
    assert (ran.code, ran.out) == (code, "")
    assert ran.err.startswith("error: model.safetensors: ")
    assert text in ran.err


def test_file_that_may_not_be_read(bioconvert, tmp_path, monkeypatch):
    """A file that the system doesn't let us read is 4, not a mistake of usage."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    ran = bioconvert("inspect", _single(tmp_path))
    assert ran.code == 4
    assert ran.err.endswith("model.safetensors: Permission denied\n")


def test_absent_file(bioconvert):
    """A path where there is nothing is 2."""
    ran = bioconvert("inspect", "absent.safetensors")
    assert (ran.code, ran.err) == (2, "error: absent.safetensors: No such file or directory\n")

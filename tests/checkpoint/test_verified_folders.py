"""An output folder is sound only if every bit is as it was written."""

import json
import random

import pytest
import safetensors.torch
import torch
from checkpoint_samples import Plain

from bioconvert.checkpoint import save_model, verify_folder
from bioconvert.core.errors import CheckpointError


@pytest.fixture
def folder(tmp_path):
    """Give a folder with shards and a file beside them."""
    (tmp_path / "source").mkdir()
    safetensors.torch.save_file({"a": torch.ones(1)}, tmp_path / "source" / "model.safetensors")
    (tmp_path / "source" / "config.json").write_text('{"a": 1}')
    return save_model(Plain(), tmp_path / "out", source=tmp_path / "source", shard_size=200)


def _flip_data(folder):
    path = folder / "model-00001-of-00002.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def _rename_tensor(folder):
    path = folder / "model-00001-of-00002.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"first.bias"', b'"first.bios"'))


def _add_tensor(folder):
    path = folder / "model-00001-of-00002.safetensors"
    tensors = safetensors.torch.load_file(path)
    safetensors.torch.save_file({**tensors, "more": torch.ones(1)}, path, {"format": "pt"})


def _edit_manifest(folder):
    path = folder / "bioconvert.json"
    manifest = json.loads(path.read_text())
    manifest["tool"]["torch"] = "9"
    path.write_text(json.dumps(manifest))


def _cut(folder):
    path = folder / "model-00002-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-3])


DAMAGE = [
    pytest.param(_flip_data, ["00001-of-00002.*: tensor '.*' doesn't have the bytes"], id="bit of a tensor"),
    pytest.param(
        _rename_tensor,
        ["another header", "lacks the tensor 'first.bias'", "'first.bios' isn't listed"],
        id="name in a header",
    ),
    pytest.param(
        _add_tensor,
        ["bytes, but .* were written", "another header", "'more' isn't listed"],
        id="tensor added",
    ),
    pytest.param(_cut, ["bytes, but .* were written", "3 bytes are missing at the end"], id="cut short"),
    pytest.param(
        lambda f: (f / "config.json").unlink(), [r"config\.json: there is no such file"], id="file missing"
    ),
    pytest.param(
        lambda f: (f / "model-00001-of-00002.safetensors").unlink(),
        ["00001.*: there is no such file"],
        id="shard missing",
    ),
    pytest.param(
        lambda f: (f / "config.json").write_text('{"a": 2}'),
        [r"config\.json: isn't the file"],
        id="file changed",
    ),
    pytest.param(
        lambda f: (f / "config.json").write_text("{}"),
        [r"config\.json: has 2 bytes, but 8 were", r"config\.json: isn't the file"],
        id="file of another size",
    ),
    pytest.param(
        lambda f: (f / "model.safetensors.index.json").write_text("{}"),
        ["has 2 bytes", "isn't the file"],
        id="index",
    ),
    pytest.param(lambda f: (f / "more.txt").write_text(""), [r"more\.txt: isn't listed"], id="file added"),
    pytest.param(_edit_manifest, [r"bioconvert\.json: was changed"], id="manifest edited"),
    pytest.param(
        lambda f: (f / "bioconvert.json").write_text("{"), ["bioconvert.json.*not valid JSON"], id="no JSON"
    ),
]


class TestFindings:
    def test_a_sound_folder_has_none(self, folder):
        """What was just written is sound."""
        assert verify_folder(folder) == []

    @pytest.mark.parametrize(("damage", "expected"), DAMAGE)
    def test_all_damage_is_found_and_named(self, folder, damage, expected):
        """Each finding names its file, and its tensor where it is about one, in one line."""
        import re

        damage(folder)
        findings = [str(finding) for finding in verify_folder(folder)]
        assert len(findings) == len(expected), findings
        for finding, pattern in zip(findings, expected, strict=True):
            assert re.search(pattern, finding), findings
            assert "\n" not in finding

    @pytest.mark.parametrize("name", ["model-00001-of-00002.safetensors", "config.json", "bioconvert.json"])
    def test_any_flipped_bit_is_found(self, folder, name):
        """Every single bit of every file counts."""
        path = folder / name
        content = path.read_bytes()
        for bit in random.Random(3).sample(range(8 * len(content)), min(60, 8 * len(content))):
            changed = bytearray(content)
            changed[bit // 8] ^= 1 << bit % 8
            path.write_bytes(changed)
            assert verify_folder(folder), f"bit {bit}"

    def test_what_is_no_folder_of_ours_is_refused(self, tmp_path):
        """Without a manifest there is nothing to compare with."""
        with pytest.raises(CheckpointError, match="a folder that bioconvert wrote"):
            verify_folder(tmp_path)

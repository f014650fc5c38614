"""Shards are read as one checkpoint, and only from the index's own folder."""

import json

import pytest
import safetensors.torch
import torch
from checkpoint_samples import same_state

from bioconvert.checkpoint import read_checkpoint
from bioconvert.core.errors import BioconvertError, CheckpointError, CorruptFileError, UnsafeFileError

ONE, TWO = {"a.weight": torch.arange(4.0)}, {"b.weight": torch.arange(3), "b.bias": torch.ones(1)}
MAP = {"a.weight": "one.safetensors", "b.weight": "two.safetensors", "b.bias": "two.safetensors"}


def write(folder, weight_map=MAP, name="model.safetensors.index.json"):
    """Write two shards and an index."""
    folder.mkdir(exist_ok=True)
    safetensors.torch.save_file(ONE, folder / "one.safetensors")
    safetensors.torch.save_file(TWO, folder / "two.safetensors")
    path = folder / name
    path.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return path


class TestGoodIndexes:
    def test_the_index_and_its_folder_stand_for_all_shards(self, tmp_path):
        """All tensors of all shards are read, by index or by folder."""
        index = write(tmp_path)
        by_index, by_folder = read_checkpoint(index), read_checkpoint(tmp_path)
        assert by_index.format == by_folder.format == "sharded safetensors"
        assert same_state(dict(by_index.tensors), {**ONE, **TWO})
        assert same_state(dict(by_folder.tensors), {**ONE, **TWO})

    def test_shards_may_be_pickles(self, tmp_path):
        """pytorch_model.bin may come in shards too."""
        torch.save(ONE, tmp_path / "one.bin")
        torch.save(TWO, tmp_path / "two.bin")
        weight_map = {name: file.replace("safetensors", "bin") for name, file in MAP.items()}
        (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
        found = read_checkpoint(tmp_path)
        assert found.format == "sharded torch"
        assert same_state(dict(found.tensors), {**ONE, **TWO})

    def test_a_prefix_is_taken_off_only_if_every_shard_has_it(self, tmp_path):
        """One shard with a prefix on all names and one without leave the names as they are."""
        safetensors.torch.save_file({"module.a": torch.ones(1)}, tmp_path / "one.safetensors")
        safetensors.torch.save_file({"b": torch.ones(1)}, tmp_path / "two.safetensors")
        index = {"weight_map": {"module.a": "one.safetensors", "b": "two.safetensors"}}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
        assert set(read_checkpoint(tmp_path).tensors) == {"module.a", "b"}

    def test_links_into_the_blob_store_of_a_model_cache_are_followed(self, tmp_path):
        """The cache of the Hugging Face hub keeps links in snapshots/<commit> to blobs/<hash>."""
        write(tmp_path / "blobs")
        snapshot = tmp_path / "snapshots" / "abc"
        snapshot.mkdir(parents=True)
        for path in (tmp_path / "blobs").iterdir():
            (snapshot / path.name).symlink_to(f"../../blobs/{path.name}")
        assert len(read_checkpoint(snapshot).tensors) == 3


BAD_MAPS = [
    pytest.param({**MAP, "a.weight": "../one.safetensors"}, UnsafeFileError, "own folder", id="parent"),
    pytest.param({**MAP, "a.weight": "/etc/passwd"}, UnsafeFileError, "own folder", id="absolute"),
    pytest.param({**MAP, "a.weight": "sub/one.safetensors"}, UnsafeFileError, "own folder", id="subfolder"),
    pytest.param({**MAP, "a.weight": ".."}, UnsafeFileError, "own folder", id="dots"),
    pytest.param({**MAP, "a.weight": ""}, UnsafeFileError, "own folder", id="empty name"),
    pytest.param({**MAP, "a.weight": "x\0y"}, UnsafeFileError, "own folder", id="NUL"),
    pytest.param({**MAP, "a.weight": "x" * 10_000}, UnsafeFileError, "own folder", id="long name"),
    pytest.param({**MAP, "a.weight": "\ud800"}, UnsafeFileError, "own folder", id="half a character"),
    pytest.param(
        {**MAP, "a.weight": "three.safetensors"}, CheckpointError, "1 shards are missing", id="missing"
    ),
    pytest.param(
        {**MAP, "c": "one.safetensors"}, CorruptFileError, "lacks 1 tensors", id="tensor not in shard"
    ),
    pytest.param(
        {name: file for name, file in MAP.items() if name != "b.bias"},
        CorruptFileError,
        "against the index",
        id="tensor not in index",
    ),
    pytest.param(
        {**MAP, "a.weight": "model.safetensors.index.json"}, CorruptFileError, "an index", id="itself"
    ),
    pytest.param({**MAP, "a.weight": 3}, CorruptFileError, "weight_map", id="number"),
    pytest.param([], CorruptFileError, "weight_map", id="list"),
    pytest.param({}, CorruptFileError, "weight_map", id="empty map"),
]


@pytest.mark.parametrize(("weight_map", "error", "reason"), BAD_MAPS)
def test_an_index_that_leads_elsewhere_is_refused(tmp_path, weight_map, error, reason):
    """An index that names what isn't in its folder, or not in its shards, is refused."""
    folder = tmp_path / "inner"
    safetensors.torch.save_file(ONE, tmp_path / "one.safetensors")
    index = write(folder, weight_map)
    with pytest.raises(error, match=reason):
        read_checkpoint(index)


def test_a_shard_that_is_a_link_out_of_the_folder_is_refused(tmp_path):
    """A link to elsewhere is not followed."""
    index = write(tmp_path / "inner")
    (tmp_path / "inner" / "one.safetensors").rename(tmp_path / "elsewhere")
    (tmp_path / "inner" / "one.safetensors").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafeFileError, match="link out of its folder"):
        read_checkpoint(index)


def test_an_index_given_twice_a_name_is_refused(tmp_path):
    """Duplicate names in an index are refused like those in a header."""
    index = write(tmp_path)
    index.write_text('{"weight_map": {"a": "one.safetensors", "a": "two.safetensors"}}')
    with pytest.raises(CorruptFileError, match="given twice"):
        read_checkpoint(index)


def test_a_damaged_shard_is_named(tmp_path):
    """The error names the shard, not the index."""
    index = write(tmp_path)
    content = (tmp_path / "two.safetensors").read_bytes()
    (tmp_path / "two.safetensors").write_bytes(content[:-1])
    with pytest.raises(BioconvertError, match=r"two\.safetensors: 1 bytes are missing"):
        read_checkpoint(index)

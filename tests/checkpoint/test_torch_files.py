"""An output folder whose weights torch.load reads: the same promises as with safetensors, and more kept."""

import argparse
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from checkpoint_samples import Plain, Tied, files_in, same_state
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import bioconvert as bc
from bioconvert.checkpoint import load_into, read_checkpoint, read_header, save_model, verify_folder
from bioconvert.checkpoint.tensors.torch_dtypes import CODES
from bioconvert.core.errors import CheckpointError, CorruptFileError, UnsafeFileError

RULES = {"version": 1, "rules": [{"match": {"path": "first"}, "replace": {"with": "YatLinear"}}]}
PLAIN, TIED = "checkpoint_samples:Plain", "checkpoint_samples:Tied"


def save(model, path, **how):
    """Save with weights for torch.load."""
    return save_model(model, path, weights_format="pt", **how)


def load(path):
    """Load as a user of torch does."""
    return torch.load(path, weights_only=True)


@pytest.fixture
def folder(tmp_path):
    """Give a folder of a converted model."""
    torch.manual_seed(0)
    return save(bc.convert(Plain(), RULES), tmp_path / "out", arch=PLAIN)


class TestFolder:
    def test_torch_reads_the_state_dict(self, folder):
        """model.pt is a state dict by the names of the model, bit for bit, and the only file of weights."""
        assert {path.name for path in folder.glob("model*")} == {"model.pt"}
        assert same_state(dict(load(folder / "model.pt")), dict(bc.load(folder).state_dict()))

    def test_the_model_comes_back_and_is_proven(self, folder):
        """Loading and verifying work as with safetensors."""
        assert verify_folder(folder) == []
        assert type(bc.load(folder).first).__name__.startswith("Yat")

    def test_both_formats_hold_the_same(self, folder, tmp_path):
        """The manifests differ in the names of files only; the tensors have the same hashes."""
        other = save_model(bc.load(folder), tmp_path / "other", arch=PLAIN)
        one, two = (bc.checkpoint.read_manifest(place / "bioconvert.json") for place in (folder, other))
        assert {n: r.sha256 for n, r in one.tensors.items()} == {n: r.sha256 for n, r in two.tensors.items()}

    def test_the_same_model_gives_the_same_bytes(self, folder, tmp_path):
        """Nothing of time or chance is in the file."""
        assert files_in(save(bc.load(folder), tmp_path / "other", arch=PLAIN)) == files_in(folder)

    def test_ties_are_ties_for_torch_too(self, tmp_path):
        """Tied names share one record, and one tensor when torch loads them."""
        found = load(save(Tied(), tmp_path / "out", arch=TIED) / "model.pt")
        assert found["encoder.weight"].data_ptr() == found["decoder.weight"].data_ptr()
        assert verify_folder(tmp_path / "out") == []
        loaded = bc.load(tmp_path / "out")
        assert loaded.encoder.weight is loaded.decoder.weight

    def test_a_converted_folder_is_reverted(self, folder, tmp_path):
        """The original weights come out of it as out of any other folder."""
        bc.checkpoint.revert_folder(folder, tmp_path / "back")
        found = read_checkpoint(tmp_path / "back")
        load_into(Plain(), found)


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
@pytest.mark.parametrize("dtype", [pytest.param(dtype, id=str(dtype)) for dtype in CODES])
def test_every_number_format_is_read_by_torch_and_back(tmp_path, dtype):
    """Each number format of a manifest survives, in any shape."""
    model = nn.Module()
    raw = torch.arange(48, dtype=torch.uint8) % 2
    for name, shape in (("matrix", (3, -1)), ("line", (-1,))):
        model.register_buffer(name, raw.view(dtype).view(shape).clone())
    model.register_buffer("nothing", torch.empty((2, 0, 3), dtype=dtype))
    model.register_buffer("one", raw.view(dtype)[0].clone())
    save(model, tmp_path / "out")
    assert same_state(dict(load(tmp_path / "out" / "model.pt")), dict(model.state_dict()))
    assert verify_folder(tmp_path / "out") == []
    found = read_checkpoint(tmp_path / "out")
    assert same_state(dict(found.tensors), dict(model.state_dict()))


@settings(deadline=None, max_examples=25)
@given(
    st.dictionaries(st.text("abc.é<\n", min_size=1, max_size=300), st.integers(0, 40), min_size=1, max_size=6)
)
def test_names_and_sizes_of_any_kind(tmp_path_factory, sizes):
    """Whatever the names and sizes, torch reads what was written, aligned to 64 bytes."""
    state = {name: torch.arange(float(size)) for name, size in sizes.items()}
    folder = save(_Holder(state), tmp_path_factory.mktemp("x") / "out")
    assert same_state(dict(load(folder / "model.pt")), state)
    assert all(entry.start % 64 == 0 for entry in read_header(folder / "model.pt").tensors.values())


class _Holder(nn.Module):
    def __init__(self, state):
        super().__init__()
        self.state = state

    def state_dict(self, *_, **__):
        """Give the names as they are, which buffers can't have."""
        return dict(self.state)


class TestTrainingDicts:
    @pytest.fixture
    def trained(self, tmp_path):
        """Give the checkpoint of a training script."""
        model = Plain()
        optimizer = torch.optim.AdamW(model.parameters())
        model(torch.randn(8, 4)).sum().backward()
        optimizer.step()
        content = {
            "epoch": 3,
            "best": float("inf"),
            "model": {"state_dict": model.state_dict(), "name": "plain"},
            "optimizer": optimizer.state_dict(),
            "args": argparse.Namespace(lr=0.1),
        }
        torch.save(content, tmp_path / "trained.pt")
        return tmp_path / "trained.pt", content

    def test_the_rest_is_kept_around_the_converted_weights(self, trained, tmp_path):
        """Epoch, optimizer state and all else stay where they were; the new weights lie at the same keys."""
        path, content = trained
        source = read_checkpoint(path)
        model = Plain()
        load_into(model, source)
        save(bc.convert(model, RULES), tmp_path / "out", arch=PLAIN, source=source)
        with torch.serialization.safe_globals([argparse.Namespace]):
            found = load(tmp_path / "out" / "model.pt")
        assert (found["epoch"], found["best"], found["args"]) == (3, float("inf"), content["args"])
        assert found["model"]["name"] == "plain"
        assert set(found["model"]["state_dict"]) == set(bc.load(tmp_path / "out").state_dict())
        for key, state in content["optimizer"]["state"].items():
            assert same_state(found["optimizer"]["state"][key], state)
        assert found["optimizer"]["param_groups"] == content["optimizer"]["param_groups"]
        assert verify_folder(tmp_path / "out") == []
        again = read_checkpoint(tmp_path / "out" / "model.pt")
        assert again.nesting == ("model", "state_dict")

    def test_a_tensor_beside_the_weights_that_claims_more_than_the_file_is_refused(self, tmp_path):
        """An optimizer's state of 10¹² elements with a stride of 0 is no reason to allocate them."""
        content = {"model": Plain().state_dict(), "optimizer": {"x": torch.zeros(1).expand(10**12)}}
        torch.save(content, tmp_path / "x.pt")
        with pytest.raises(UnsafeFileError, match="beside the weights claims 4000000000000 bytes"):
            save(Plain(), tmp_path / "out", source=read_checkpoint(tmp_path / "x.pt"))
        assert not (tmp_path / "out").exists()

    def test_what_safetensors_cannot_keep_is_named(self, trained, tmp_path, caplog):
        """A folder of safetensors has the weights alone, and a warning says what isn't there."""
        source = read_checkpoint(trained[0])
        save_model(Plain(), tmp_path / "out", arch=PLAIN, source=source)
        assert "not epoch, best, optimizer, args, model/name; --format pt keeps all" in caplog.text

    def test_a_state_dict_alone_leaves_nothing_to_say(self, tmp_path, caplog):
        """Without a training dict nothing is left out, and no warning comes."""
        torch.save({"state_dict": Plain().state_dict()}, tmp_path / "x.pt")
        save_model(Plain(), tmp_path / "out", arch=PLAIN, source=read_checkpoint(tmp_path / "x.pt"))
        assert "kept" not in caplog.text


class TestDamage:
    def test_every_flipped_bit_is_found(self, folder):
        """The hash of the file covers what lies around the tensors too."""
        content = (folder / "model.pt").read_bytes()
        for bit in range(0, 8 * len(content), 8 * len(content) // 60):
            damaged = bytearray(content)
            damaged[bit // 8] ^= 1 << bit % 8
            (folder / "model.pt").write_bytes(damaged)
            assert verify_folder(folder), f"bit {bit}"

    def test_a_cut_file_is_corrupt(self, folder):
        """A file that is cut short is found by both readers."""
        content = (folder / "model.pt").read_bytes()
        for length in (0, 3, 8, 100, len(content) // 2, len(content) - 1):
            (folder / "model.pt").write_bytes(content[:length])
            assert verify_folder(folder)
            with pytest.raises(CorruptFileError, match=r"model\.pt"):
                bc.load(folder)

    def test_another_file_in_its_place_is_named(self, folder):
        """A file that torch.save wrote has no table, and isn't taken for ours."""
        torch.save(Plain().state_dict(), folder / "model.pt")
        assert verify_folder(folder)
        with pytest.raises(CheckpointError, match=r"model\.pt: "):
            bc.load(folder)


@pytest.mark.slow
def test_the_bytes_do_not_depend_on_the_hash_seed(tmp_path):
    """Whatever the order of sets, the same checkpoint gives the same file."""
    torch.save({"epoch": 1, "state_dict": Plain().state_dict(), "lr": {"a": 0.5}}, tmp_path / "x.pt")
    code = """
        import sys
        sys.path.append(sys.argv[1])
        from bioconvert.checkpoint import load_into, read_checkpoint, save_model
        from checkpoint_samples import Plain
        source, model = read_checkpoint("x.pt"), Plain()
        load_into(model, source)
        save_model(model, sys.argv[2], arch="checkpoint_samples:Plain", source=source, weights_format="pt")
    """
    for seed in ("1", "2"):
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), str(Path(__file__).parent), seed],
            cwd=tmp_path,
            env={"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1", "PATH": ""},
            check=True,
            timeout=120,
        )
    assert files_in(tmp_path / "1") == files_in(tmp_path / "2")

"""A converted model survives its folder: loaded, verified, reverted."""

import json
import subprocess
import sys

import pytest
import torch
from checkpoint_samples import Plain, Tied, files_in, same_state
from torch import nn
from torch.nn import functional as F

import bioconvert as bc
from bioconvert.checkpoint import (
    find_architecture,
    load_into,
    load_model,
    parse_arch,
    read_checkpoint,
    read_manifest,
    revert_folder,
    save_model,
    verify_folder,
)
from bioconvert.core import registry
from bioconvert.core.change import Change, TensorRecipe
from bioconvert.core.errors import CheckpointError, ConversionError, CorruptFileError, TargetError

INPUTS = torch.linspace(-1, 1, 12).view(3, 4)
RULES = {
    "version": 1,
    "name": "scaled",
    "rules": [{"match": {"type": "linear"}, "replace": {"with": "Scaled"}}],
}


class Scaled(nn.Linear):
    """Adds a gain, halves the weight, and has a bias always."""

    def forward(self, x):
        """Run."""
        return F.linear(x, self.weight, self.bias) * self.gain + self.shift


def scaled(layer, site, *, shift: float = 0.5):
    """Turn a Linear into a Scaled."""
    adds = {"gain": TensorRecipe(lambda old, stream: torch.full((1,), 3.0))}
    if layer.bias is None:
        adds["bias"] = TensorRecipe(lambda old, stream: torch.ones(old["weight"].shape[0]))
    overwrites = {"weight": TensorRecipe(lambda old, stream: old["weight"] / 2)}
    return Change(into=Scaled, attributes={"shift": shift}, adds=adds, overwrites=overwrites)


@pytest.fixture(autouse=True)
def _replacement():
    registry.replacements.register("Scaled", scaled, ("torch.nn.Linear",))
    yield
    registry.replacements._entries.pop("Scaled")


class Biasless(nn.Module):
    """One layer without a bias and one with."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4, bias=False)
        self.last = nn.Linear(4, 2)

    def forward(self, x):
        """Run."""
        return self.last(self.first(x))


class Twice(nn.Module):
    """One layer under two names."""

    def __init__(self):
        super().__init__()
        self.one = nn.Linear(4, 4)
        self.other = self.one

    def forward(self, x):
        """Run."""
        return self.other(self.one(x))


MODELS = [
    pytest.param(Plain, INPUTS, id="plain"),
    pytest.param(Biasless, INPUTS, id="bias added"),
    pytest.param(Twice, INPUTS, id="shared layer"),
    pytest.param(Tied, torch.tensor([0, 3, 5]), id="tied weight"),
]


def converted(make):
    """Give a converted model whose new tensors were trained a little."""
    torch.manual_seed(0)
    model = bc.convert(make(), RULES)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.25
    return model


@pytest.mark.parametrize(("make", "inputs"), MODELS)
class TestEveryConvertedModel:
    def test_computes_the_same_after_loading(self, tmp_path, make, inputs):
        """Classes, options, values and outputs are those that were saved, without the user's help."""
        model = converted(make).eval()
        save_model(model, tmp_path / "out")
        found = load_model(tmp_path / "out")
        assert [type(m) for m in found.modules()] == [type(m) for m in model.modules()]
        assert same_state(found.state_dict(), model.state_dict())
        assert torch.equal(found(inputs), model(inputs))
        assert verify_folder(tmp_path / "out") == []

    def test_is_saved_as_the_same_bytes_again(self, tmp_path, make, inputs):
        """Nothing is lost on the way through a folder."""
        save_model(converted(make), tmp_path / "one")
        save_model(load_model(tmp_path / "one"), tmp_path / "two")
        assert files_in(tmp_path / "one") == files_in(tmp_path / "two")

    def test_can_be_reverted_in_memory_after_loading(self, tmp_path, make, inputs):
        """What conversion overwrote comes back from the folder too."""
        model = converted(make)
        save_model(model, tmp_path / "out")
        found = load_model(tmp_path / "out")
        assert same_state(bc.revert(found).state_dict(), bc.revert(model).state_dict())
        assert [type(m) for m in found.modules()] == [type(m) for m in make().modules()]

    def test_its_architecture_is_that_of_the_original(self, tmp_path, make, inputs):
        """The conversion is seen through."""
        assert find_architecture(converted(make)) == find_architecture(make())

    def test_is_reverted_on_disk_as_in_memory(self, tmp_path, make, inputs):
        """The reverted folder holds the original's names and values, and loads as the original."""
        model = converted(make)
        save_model(model, tmp_path / "out", shard_size=64)
        assert revert_folder(tmp_path / "out", tmp_path / "back") == tmp_path / "back"
        expected = bc.revert(model).state_dict()
        assert same_state(
            dict(sorted(read_checkpoint(tmp_path / "back").tensors.items())), dict(sorted(expected.items()))
        )
        assert same_state(load_model(tmp_path / "back").state_dict(), expected)
        assert verify_folder(tmp_path / "back") == []
        manifest = read_manifest(tmp_path / "back" / "bioconvert.json")
        assert (manifest.conversion, manifest.rules, manifest.originals) == (None, [], {})


class TestManifest:
    def test_says_what_was_done(self, tmp_path):
        """Rules by content, the new class and its options, and the original values are recorded."""
        save_model(converted(Biasless), tmp_path / "out")
        manifest = read_manifest(tmp_path / "out" / "bioconvert.json")
        assert manifest.rules[0]["name"] == "scaled"
        assert manifest.converted
        steps = {entry["path"]: entry["steps"][0] for entry in manifest.conversion["modules"]}
        assert steps["first"]["into"].endswith("Scaled")
        assert steps["first"]["attributes"] == {"shift": 0.5}
        assert manifest.added == ("first.bias", "first.gain", "last.gain")
        assert set(manifest.originals) == {"first.weight", "last.weight"}
        assert {record.file for record in manifest.originals.values()} == {"originals.safetensors"}

    def test_of_an_unconverted_model_says_that_nothing_was_done(self, tmp_path):
        """A base model has no conversion."""
        save_model(Plain(), tmp_path / "out")
        manifest = read_manifest(tmp_path / "out" / "bioconvert.json")
        assert (manifest.conversion, manifest.converted) == (None, False)


class TestReverting:
    def test_names_are_those_of_the_source(self, tmp_path):
        """A prefix that was taken off stands before every name again, and is taken off again on reading."""
        original = Plain()
        torch.save(
            {"state_dict": {f"module.{k}": v for k, v in original.state_dict().items()}}, tmp_path / "x.pt"
        )
        model = Plain()
        load_into(model, read_checkpoint(tmp_path / "x.pt"))
        save_model(bc.convert(model, RULES), tmp_path / "out", source=tmp_path / "x.pt")
        revert_folder(tmp_path / "out", tmp_path / "back")
        import safetensors.torch

        stored = safetensors.torch.load_file(tmp_path / "back" / "model.safetensors")
        assert same_state(
            dict(sorted(stored.items())), {f"module.{k}": v for k, v in sorted(original.state_dict().items())}
        )
        assert read_checkpoint(tmp_path / "back").prefix == "module."
        assert same_state(load_model(tmp_path / "back").state_dict(), original.state_dict())
        revert_folder(tmp_path / "back", tmp_path / "again")
        assert files_in(tmp_path / "again") == files_in(tmp_path / "back")

    def test_files_beside_the_weights_come_along(self, tmp_path):
        """A reverted folder of transformers has its configuration."""
        (tmp_path / "source").mkdir()
        torch.save(Plain().state_dict(), tmp_path / "source" / "pytorch_model.bin")
        (tmp_path / "source" / "config.json").write_text("{}")
        save_model(converted(Plain), tmp_path / "out", source=tmp_path / "source", shard_size=64)
        revert_folder(tmp_path / "out", tmp_path / "back")
        assert set(files_in(tmp_path / "back")) == {"model.safetensors", "config.json", "bioconvert.json"}

    def test_damage_is_found_and_nothing_written(self, tmp_path):
        """A flipped bit anywhere in what is needed stops the reverting."""
        save_model(converted(Plain), tmp_path / "out")
        for name in ("model.safetensors", "originals.safetensors"):
            path = tmp_path / "out" / name
            content = path.read_bytes()
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            with pytest.raises(CorruptFileError, match=f"{name}: the bytes of tensor"):
                revert_folder(tmp_path / "out", tmp_path / "back")
            path.write_bytes(content)
        assert not (tmp_path / "back").exists()

    def test_a_changed_file_beside_the_weights_is_found(self, tmp_path):
        """Every file that is carried over is proven first."""
        (tmp_path / "source").mkdir()
        torch.save(Plain().state_dict(), tmp_path / "source" / "pytorch_model.bin")
        (tmp_path / "source" / "config.json").write_text("{}")
        save_model(converted(Plain), tmp_path / "out", source=tmp_path / "source")
        (tmp_path / "out" / "config.json").write_text("{ }")
        with pytest.raises(CorruptFileError, match=r"config\.json: isn't the file"):
            revert_folder(tmp_path / "out", tmp_path / "back")

    def test_a_folder_in_use_is_kept_unless_it_may_be_overwritten(self, tmp_path):
        """Reverting onto a folder replaces it on demand only; onto itself too."""
        save_model(converted(Plain), tmp_path / "out")
        before = files_in(tmp_path / "out")
        with pytest.raises(TargetError, match="isn't empty"):
            revert_folder(tmp_path / "out", tmp_path / "out")
        assert files_in(tmp_path / "out") == before
        revert_folder(tmp_path / "out", tmp_path / "out", overwrite=True)
        assert not read_manifest(tmp_path / "out" / "bioconvert.json").converted

    def test_what_is_no_folder_of_ours_is_refused(self, tmp_path):
        """Without a manifest nothing says what to revert."""
        with pytest.raises(CheckpointError, match="a folder that bioconvert wrote"):
            revert_folder(tmp_path, tmp_path / "back")


def test_original_values_that_are_not_listed_are_damage(tmp_path):
    """A manifest that forgot what conversion overwrote is corrupt."""
    save_model(converted(Plain), tmp_path / "out")
    path = tmp_path / "out" / "bioconvert.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "originals": {}}))
    with pytest.raises(CorruptFileError, match=r"bioconvert\.json: the conversion can't be repeated"):
        load_model(tmp_path / "out")


def test_a_conversion_that_does_not_fit_the_base_is_refused(tmp_path):
    """Another base model than was converted is an error that names the misfit."""
    save_model(converted(Plain), tmp_path / "out")
    with pytest.raises(ConversionError, match="'first'"):
        load_model(tmp_path / "out", factory=lambda: nn.Sequential(nn.Linear(2, 2)))


def test_the_folder_is_loaded_by_a_process_that_knows_nothing(tmp_path):
    """Another process rebuilds the model from the folder alone."""
    from checkpoint_samples import __file__ as samples

    model = parse_arch("checkpoint_samples:Plain").build()
    save_model(model, tmp_path / "out")
    code = "import sys, bioconvert as bc; print(type(bc.load(sys.argv[1])).__name__)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(__import__("pathlib").Path(samples).parent)},
    )
    assert done.stdout.split() == ["Plain"], done.stderr


@pytest.mark.usefixtures("torchvision")
def test_a_training_checkpoint_of_torchvision_goes_all_the_way(tmp_path):
    """Read, load, convert, save, load, revert: the last is the first."""
    base = parse_arch("torchvision:mobilenet_v2", {"num_classes": 3}).build()
    torch.save({"model": base.state_dict(), "epoch": 3}, tmp_path / "x.pt")
    model = parse_arch("torchvision:mobilenet_v2", {"num_classes": 3}).build()
    load_into(model, read_checkpoint(tmp_path / "x.pt"))
    save_model(bc.convert(model, RULES), tmp_path / "out", source=tmp_path / "x.pt")
    assert json.loads((tmp_path / "out" / "bioconvert.json").read_text())["architecture"] == {
        "kind": "torchvision",
        "name": "mobilenet_v2",
        "args": {"num_classes": 3},
    }
    found = load_model(tmp_path / "out")
    assert type(found.classifier[1]) is Scaled
    assert same_state(found.state_dict(), model.state_dict())
    revert_folder(tmp_path / "out", tmp_path / "back")
    assert same_state(load_model(tmp_path / "back").state_dict(), base.state_dict())

"""``bioconvert convert`` on real files of each class, made by the libraries that write them."""

import warnings
from importlib.util import find_spec

import every_format
import pytest
import torch

import bioconvert as bc
from bioconvert.checkpoint.folders.config_mark import unmarked

for library in ("torchvision", "timm", "transformers"):
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed", allow_module_level=True)

FORMATS = [
    # A pickle is read in a process of its own, which imports torch once more.
    pytest.param(name, marks=[pytest.mark.slow] if name == "whole-module pickle" else [])
    for name in every_format.FORMATS
]
SIDE_FILES = ("tokenizer.json", "generation_config.json")


def outputs(model, inputs):
    """The tensors that a model gives."""
    with torch.no_grad():
        given = model(**inputs) if isinstance(inputs, dict) else model(inputs)
    return given if isinstance(given, torch.Tensor) else given.logits


@pytest.fixture
def made(request, tmp_path):
    """A checkpoint, with the model that it is of."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return every_format.FORMATS[request.param](tmp_path)


@pytest.fixture(params=["yat-all", "plastic"])
def rules(request):
    """Rules that replace layers, and rules that attach to them."""
    return request.param


@pytest.mark.parametrize("made", FORMATS, indirect=True)
class TestEveryFormat:
    def test_folder_is_the_conversion_in_memory(self, bioconvert, made, rules, tmp_path):
        """bc.load gives the model converted in memory: its classes, every tensor and its outputs."""
        ran = bioconvert("convert", made.path, *made.options, "--rules", rules, "--out", "out", "--seed", "3")
        assert ran.code == 0, ran.err
        loaded = bc.load(tmp_path / "out").eval()
        converted = bc.convert(made.model, rules, seed=3)
        ours, theirs = loaded.state_dict(), converted.state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        assert [type(module) for module in loaded.modules()] == [type(m) for m in converted.modules()]
        assert torch.equal(outputs(loaded, made.inputs), outputs(converted, made.inputs))

    def test_folder_is_sound_and_reverts(self, bioconvert, made, tmp_path):
        """The folder verifies, and reverting it gives the source's tensors, names and side files."""
        before = {name: tensor.clone() for name, tensor in made.model.state_dict().items()}
        ran = bioconvert("convert", made.path, *made.options, "--rules", "yat-all", "--out", "out")
        assert ran.code == 0, ran.err
        assert bioconvert("verify", "out").code == 0
        assert bioconvert("revert", "out", "--out", "back").code == 0
        back = bc.load(tmp_path / "back").state_dict()
        assert back.keys() == before.keys()
        assert all(torch.equal(back[name], before[name]) for name in before)
        if made.path.is_dir():
            for name in ("config.json", *SIDE_FILES):
                if (made.path / name).exists():
                    assert (tmp_path / "back" / name).read_bytes() == (made.path / name).read_bytes()


@pytest.mark.parametrize("made", ["ViT folder", "sharded GPT-2 folder"], indirect=True)
class TestTransformersFolders:
    def test_side_files_are_copied_and_the_configuration_is_marked(self, bioconvert, made, tmp_path):
        """Files beside the weights are the source's byte by byte; config.json is, without its mark."""
        assert bioconvert("convert", made.path, "--rules", "yat-all", "--out", "out").code == 0
        for path in made.path.iterdir():
            if path.name in SIDE_FILES:
                assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
        config = tmp_path / "out" / "config.json"
        assert unmarked(config.read_bytes(), config) == (made.path / "config.json").read_bytes()
        with pytest.raises((OSError, ValueError), match="load-with-bioconvert"):
            type(made.model).from_pretrained(tmp_path / "out")

    def test_reverted_folder_is_one_of_transformers(self, bioconvert, made, tmp_path):
        """After revert transformers itself loads the folder."""
        cls, before = type(made.model), made.model.state_dict()
        assert bioconvert("convert", made.path, "--rules", "yat-all", "--out", "out").code == 0
        assert bioconvert("revert", "out", "--out", "back").code == 0
        back = cls.from_pretrained(tmp_path / "back").state_dict()
        assert all(torch.equal(back[name], before[name]) for name in before)


@pytest.mark.parametrize("made", ["ViT folder", "sharded GPT-2 folder", "timm folder"], indirect=True)
def test_streamed_folder_has_the_same_bytes(bioconvert, made, tmp_path):
    """Read tensor by tensor, a folder is converted to the same files."""
    for how, out in (("--stream", "one"), ("--no-stream", "other")):
        ran = bioconvert("convert", made.path, "--rules", "yat-all", "--out", out, how)
        assert ran.code == 0, ran.err
    one, other = (
        {path.name: path.read_bytes() for path in (tmp_path / out).iterdir()} for out in ("one", "other")
    )
    assert one == other


@pytest.mark.parametrize("made", ["whole-module pickle"], indirect=True)
def test_whole_module_is_not_read_unasked(bioconvert, made, tmp_path):
    """Without the flag a pickle of a whole model is 3."""
    ran = bioconvert("convert", made.path, "--rules", "yat-all", "--out", "out")
    assert ran.code == 3
    assert not (tmp_path / "out").exists()

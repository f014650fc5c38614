"""Single files made of converted models: they compute the same, hold no training state, and appear whole."""

import os
import stat
import sys
from importlib.util import find_spec

import pytest
import torch
from torch import nn

import bioconvert as bc
from bioconvert.checkpoint.exports.exported import new_single_file
from bioconvert.checkpoint.exports.inference import difference
from bioconvert.checkpoint.exports.onnx_file import export_onnx
from bioconvert.checkpoint.exports.program import export_program
from bioconvert.checkpoint.exports.state_dict import export_state_dict
from bioconvert.core.errors import OptionError, TargetError

X = torch.linspace(-1, 1, 2 * 3 * 8 * 8).view(2, 3, 8, 8)


def network():
    """A small convolutional network."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(288, 6),
        nn.ReLU(),
        nn.Linear(6, 4),
    )


def rules(*rules):
    """A rule set of some rules."""
    return {"version": 1, "name": "exported", "rules": list(rules)}


CONVERSIONS = [
    pytest.param("yat-all", id="Yat layers"),
    pytest.param("dynamic", id="dynamic layers"),
    pytest.param(rules({"match": {"type": "Conv2d"}, "wrap": {}}), id="wrapped"),
    pytest.param(["yat-all", "plastic"], id="with plasticity"),
    pytest.param(
        rules({"match": {"type": "linear"}, "replace": {"with": "YatLinear", "morph": {"steps": 4}}}),
        id="half-way to another layer",
    ),
    pytest.param(
        rules(
            {
                "match": {"path": "7"},
                "replace": {
                    "with": "DynamicLinear",
                    "composer": "mixture",
                    "context": "node:5",
                    "gate": 0.5,
                },
            }
        ),
        id="with a context",
    ),
    pytest.param(rules(), id="not converted"),
]
needs_onnx = pytest.mark.skipif(
    find_spec("onnx") is None or find_spec("onnxscript") is None, reason="needs onnx and onnxscript"
)
GRAPHS = [
    pytest.param(export_program, "model.pt2", id="pt2"),
    pytest.param(export_onnx, "model.onnx", id="onnx", marks=[needs_onnx, pytest.mark.slow]),
]


@pytest.mark.parametrize(("export", "name"), GRAPHS)
class TestGraphs:
    @pytest.mark.parametrize("conversion", CONVERSIONS)
    def test_outputs_are_the_model_s(self, export, name, conversion, tmp_path):
        """Whatever the conversion, the file computes what the model computes in eval mode."""
        model = bc.convert(network(), conversion)
        done = export(model, (X,), tmp_path / name)
        assert done.difference < 1e-5
        assert done.size == (tmp_path / name).stat().st_size
        assert [path.name for path in tmp_path.iterdir()] == [name]

    def test_grown_model(self, export, name, tmp_path):
        """A model that has grown a branch is exported with it."""
        model = bc.convert(network(), rules({"match": {"path": "5"}, "wrap": {"tag": "general"}}))
        bc.Organism(model).grow("general", tag="expert")
        assert export(model, (X,), tmp_path / name).difference < 1e-5

    def test_batch_may_have_any_size(self, export, name, tmp_path):
        """With a dynamic batch the file is run on two sizes."""
        model = bc.convert(network(), "yat-all")
        assert export(model, (X[:1],), tmp_path / name, dynamic=True).difference < 1e-5

    def test_arguments_may_have_names(self, export, name, tmp_path):
        """Inputs by name are passed by name."""
        model = bc.convert(network(), "yat-all")
        assert export(model, {"input": X}, tmp_path / name, dynamic=True).difference < 1e-5

    def test_model_stays_as_it_is(self, export, name, tmp_path):
        """Train flags, buffers and gradients' flags are those of before."""
        model = bc.convert(network().train(), ["yat-all", "plastic"])
        before = {key: value.clone() for key, value in model.state_dict().items()}
        done = export(model, (X,), tmp_path / name)
        assert model.training
        assert list(model.state_dict()) == list(before)
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
        assert set(done.left_out) == {key for key in before if "fuzzy" in key or "crystallize" in key}

    def test_inputs_that_do_not_fit(self, export, name, tmp_path):
        """Inputs that the model fails on are an error, and no file appears."""
        with pytest.raises(OptionError, match="the model fails on the inputs: "):
            export(network(), (X[:, :2],), tmp_path / name)
        assert not list(tmp_path.iterdir())

    def test_model_that_cannot_be_exported(self, export, name, tmp_path):
        """What torch can't export is an error with its reason, and no file appears."""

        class Branching(nn.Module):
            def forward(self, x):
                return x + 1 if x.sum() > 0 else x - 1

        with pytest.raises(OptionError, match="can't be exported to"):
            export(Branching(), (X,), tmp_path / name)
        assert not list(tmp_path.iterdir())

    def test_batch_needs_a_dimension(self, export, name, tmp_path):
        """A number has no batch dimension."""
        with pytest.raises(OptionError, match="batch dimension"):
            export(nn.ReLU(), (torch.tensor(1.0),), tmp_path / name, dynamic=True)


class TestStateDict:
    def test_names_are_those_of_the_model(self, tmp_path):
        """The tensors load into the same model, but for what only training needs."""
        model = bc.convert(network(), ["yat-all", "plastic"])
        done = export_state_dict(model, tmp_path / "model.pt")
        state = torch.load(tmp_path / "model.pt", weights_only=True)
        assert set(done.left_out) == model.state_dict().keys() - state.keys()
        assert all("fuzzy" in name or "crystallize" in name for name in done.left_out)
        assert all(torch.equal(state[name], model.state_dict()[name]) for name in state)
        assert done.tensors == len(state)

    def test_ties_are_written_once(self, tmp_path):
        """Tied tensors take room once and still share memory when loaded."""
        model = nn.Sequential(nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False))
        model[1].weight = model[0].weight
        export_state_dict(model, tmp_path / "model.pt")
        state = torch.load(tmp_path / "model.pt", weights_only=True)
        assert state["0.weight"].data_ptr() == state["1.weight"].data_ptr()


class TestTarget:
    def test_existing_file_stays(self, tmp_path):
        """A file is replaced only if that is asked for."""
        file = tmp_path / "model.pt"
        file.write_text("mine")
        with pytest.raises(TargetError, match="--overwrite"):
            export_state_dict(nn.Linear(2, 2), file)
        assert file.read_text() == "mine"
        export_state_dict(nn.Linear(2, 2), file, overwrite=True)
        assert torch.load(file, weights_only=True).keys() == {"weight", "bias"}

    def test_failure_leaves_the_old_file(self, tmp_path):
        """Whatever goes wrong while writing, the old file stays and nothing lies beside it."""
        file = tmp_path / "model.pt"
        file.write_text("mine")
        with pytest.raises(TargetError, match="could not be written"), new_single_file(file, overwrite=True):
            raise OSError(28, "No space left on device")
        assert file.read_text() == "mine"
        assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]

    def test_more_than_one_file_is_refused(self, tmp_path):
        """A format that needs several files can't be one file."""

        def write():
            with new_single_file(tmp_path / "model.onnx", overwrite=False) as path:
                path.write_text("graph")
                (path.parent / "weights").write_text("weights")

        with pytest.raises(TargetError, match=r"needs more files than one \(model\.onnx, weights\)"):
            write()
        assert not list(tmp_path.iterdir())

    @pytest.mark.skipif(sys.platform == "win32", reason="modes are those of POSIX")
    def test_mode_is_what_the_umask_leaves(self, tmp_path):
        """A new file may be read by whom the umask lets."""
        before = os.umask(0o027)
        try:
            export_state_dict(nn.Linear(2, 2), tmp_path / "model.pt")
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "model.pt").stat().st_mode) == 0o640

    @pytest.mark.parametrize("name", ["", "absent/model.pt"])
    def test_places_without_a_file(self, tmp_path, name):
        """A folder, or a file in a folder that isn't there, can't be written."""
        with pytest.raises(TargetError, match=r"is a folder|there is no folder"):
            export_state_dict(nn.Linear(2, 2), tmp_path / name)


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        pytest.param([torch.tensor([4.0, 1.0])], [torch.tensor([4.0, 2.0])], 0.25, id="by the largest"),
        pytest.param([torch.zeros(2)], [torch.tensor([0.0, 0.5])], 0.5, id="all zero"),
        pytest.param([torch.zeros(2)], [torch.zeros(3)], float("inf"), id="other shapes"),
        pytest.param([torch.zeros(0)], [torch.zeros(0)], 0.0, id="empty"),
    ],
)
def test_difference_is_relative_to_the_largest_output(ours, theirs, expected):
    """Differences are counted in units of the largest output."""
    assert difference(ours, theirs) == expected


@needs_onnx
def test_missing_packages_name_the_extra(monkeypatch, tmp_path):
    """Without onnx the error says what to install."""
    monkeypatch.setattr("bioconvert.checkpoint.exports.onnx_file.find_spec", lambda name: None)
    with pytest.raises(OptionError, match=r"pip install 'torch-bioconvert\[onnx\]'"):
        export_onnx(network(), (X,), tmp_path / "model.onnx")

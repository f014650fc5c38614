"""What training programs save is read: Lightning's and timm's own files, and programs that torch exported."""

import argparse
import collections
import datetime
import json
import pathlib
import pickle
import zipfile

import numpy as np
import pytest
import torch
from checkpoint_samples import rewrite_zip, same_state
from hostile_samples import GOLDEN, export

from bioconvert.checkpoint import read_checkpoint
from bioconvert.checkpoint.formats.pickled import load_pickled
from bioconvert.core.errors import CheckpointError, CorruptFileError, OptionError

LAYERS = ["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"]
WEIGHTS, AVERAGED = {"w": torch.zeros(2)}, {"w": torch.ones(2)}


class TestLightning:
    def test_a_file_of_lightning_is_read_without_running_anything(self):
        """Hyper-parameters of many kinds lie beside the weights, whose names lose the module's attribute."""
        found = read_checkpoint(GOLDEN / "lightning.ckpt")
        assert (found.nesting, found.prefix) == (("state_dict",), "model.")
        assert list(found.tensors)[:6] == LAYERS
        assert found.tensors["0.weight"].shape == (8, 4)

    def test_its_hyper_parameters_are_plain_values(self):
        """Numbers of numpy, paths and containers come back as Python's own."""
        given = load_pickled(GOLDEN / "lightning.ckpt", "torch zip")["hyper_parameters"]
        assert given == {
            "args": argparse.Namespace(lr=0.1, milestones=[1, 2]),
            "root": pathlib.PurePosixPath("runs/one"),
            "rate": 0.25,
            "count": 7,
            "nested": {"depth": 2},
            "sizes": (3, 4),
            "begun": datetime.datetime(2026, 1, 2),
            "number_format": torch.float32,
        }
        assert {type(given["rate"]), type(given["count"]), type(given["nested"])} == {float, int, dict}


HARMLESS = [
    pytest.param(collections.defaultdict(list, a=[1]), {"a": [1]}, id="dict with a default"),
    pytest.param(np.float32(0.5), 0.5, id="float32"),
    pytest.param(np.bool_(True), True, id="bool"),
    pytest.param(np.array([1, 2], dtype=">i4")[1], 2, id="the other byte order"),
    pytest.param(pathlib.PureWindowsPath("a"), pathlib.PureWindowsPath("a"), id="path of Windows"),
    pytest.param(datetime.timedelta(1), datetime.timedelta(1), id="time"),
    pytest.param(float, float, id="a type"),
]


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize(("given", "expected"), HARMLESS)
def test_a_harmless_value_beside_the_weights_is_read(tmp_path, new, given, expected):
    """Values that only hold data don't stop a file from being read, and come back as plain ones."""
    torch.save({"state_dict": WEIGHTS, "x": given}, tmp_path / "x", _use_new_zipfile_serialization=new)
    found = load_pickled(tmp_path / "x", "torch zip" if new else "torch legacy")["x"]
    assert found == expected
    assert type(found) in {type(expected), dict}


def test_a_number_format_is_kept_as_what_it_was(tmp_path):
    """What stands in for a numpy dtype is pickled as one, so that a training dict can be written again."""
    given = {"plain": np.dtype("float32"), "turned": np.dtype(">i4"), "version": torch.__version__}
    torch.save({"state_dict": WEIGHTS, "x": given}, tmp_path / "x")
    found = load_pickled(tmp_path / "x", "torch zip")["x"]
    assert pickle.loads(pickle.dumps(found, protocol=2)) == given


@pytest.mark.parametrize("given", [np.longdouble(1), np.datetime64("2026"), np.str_("a")])
def test_a_number_of_numpy_without_a_plain_form_is_refused(tmp_path, given):
    """Only whole and floating-point numbers of usual sizes have a stand-in."""
    torch.save({"state_dict": WEIGHTS, "x": given}, tmp_path / "x")
    with pytest.raises(CheckpointError, match="x: "):
        read_checkpoint(tmp_path / "x")


@pytest.mark.usefixtures("timm")
class TestTimm:
    @pytest.fixture
    def saved(self, tmp_path):
        """Save by timm's own saver."""
        import timm
        from timm.utils import CheckpointSaver, ModelEmaV3

        model = timm.create_model("test_resnet", num_classes=3)
        averaged = ModelEmaV3(model)
        with torch.no_grad():
            for parameter in averaged.parameters():
                parameter.add_(1)
        saver = CheckpointSaver(
            model,
            torch.optim.SGD(model.parameters(), 0.1),
            args=argparse.Namespace(model="test_resnet", num_classes=3),
            model_ema=averaged,
            checkpoint_dir=str(tmp_path),
            recovery_dir=str(tmp_path),
        )
        saver.save_checkpoint(0, metric=0.5)
        return tmp_path / "last.pth.tar", model.state_dict(), averaged.module.state_dict()

    def test_its_own_checkpoint_is_read_and_the_averaged_weights_are_named(self, saved, caplog):
        """The trained weights are taken, and a note names the averaged ones and how to take them."""
        path, trained, _ = saved
        found = read_checkpoint(path)
        assert (found.nesting, found.passed_over) == (("state_dict",), ("state_dict_ema",))
        assert same_state(dict(found.tensors), dict(trained))
        assert "passed over state_dict_ema; --weights KEY takes another" in caplog.text

    def test_weights_that_were_asked_for_need_no_note(self, saved, caplog):
        """Where one of several was chosen, nothing is said of the others."""
        path, _, averaged = saved
        found = read_checkpoint(path, weights="state_dict_ema")
        assert same_state(dict(found.tensors), dict(averaged))
        assert caplog.text == ""

    def test_the_averaged_weights_are_taken_where_they_are_asked_for(self, saved):
        """A key names which of several state dicts is meant."""
        path, _, averaged = saved
        found = read_checkpoint(path, weights="state_dict_ema")
        assert (found.nesting, found.passed_over) == (("state_dict_ema",), ("state_dict",))
        assert same_state(dict(found.tensors), dict(averaged))


CHOSEN = [
    pytest.param({"model": WEIGHTS, "ema": AVERAGED}, "ema", ("ema",), id="a known key"),
    pytest.param({"generator": WEIGHTS, "critic": AVERAGED}, "critic", ("critic",), id="unknown keys"),
    pytest.param({"model": WEIGHTS, "x": {"y": AVERAGED}}, "x/y", ("x", "y"), id="a path"),
    pytest.param({"model": WEIGHTS, "x/y": AVERAGED}, "x/y", ("x/y",), id="a key with a stroke"),
    pytest.param(
        {"model": WEIGHTS, "x": {"state_dict": AVERAGED}}, "x", ("x", "state_dict"), id="further in"
    ),
]


class TestChoice:
    @pytest.mark.parametrize(("content", "weights", "nesting"), CHOSEN)
    def test_a_key_says_which_state_dict_is_meant(self, tmp_path, content, weights, nesting):
        """The weights are found under the keys that are named, joined by a stroke."""
        torch.save(content, tmp_path / "x.pt")
        found = read_checkpoint(tmp_path / "x.pt", weights=weights)
        assert found.nesting == nesting
        assert same_state(dict(found.tensors), AVERAGED)

    @pytest.mark.parametrize("weights", ["emo", "model/w", "optimizer", "", "/"])
    def test_a_key_without_weights_is_a_mistake_that_names_the_others(self, tmp_path, weights):
        """What isn't there is an error of usage with the keys that are."""
        torch.save({"model": WEIGHTS, "ema": AVERAGED, "optimizer": {"lr": 1}}, tmp_path / "x.pt")
        with pytest.raises(OptionError, match=r"no weights under .*Known: ema, model\."):
            read_checkpoint(tmp_path / "x.pt", weights=weights)

    def test_a_file_without_parts_has_none_to_choose(self, tmp_path):
        """A key makes no sense for a file of tensors alone."""
        from safetensors.torch import save_file

        save_file(WEIGHTS, tmp_path / "x.safetensors")
        with pytest.raises(OptionError, match="leave out --weights"):
            read_checkpoint(tmp_path / "x.safetensors", weights="ema")

    def test_a_dict_that_is_referred_to_often_is_looked_at_once(self, tmp_path):
        """Dicts that hold one another a thousand times each don't multiply."""
        inner: dict = {}
        for _ in range(4):
            inner = {str(number): inner for number in range(1000)}
        torch.save({"model": WEIGHTS, "x": inner}, tmp_path / "x.pt")
        assert read_checkpoint(tmp_path / "x.pt", weights="model").nesting == ("model",)


class TestExportedPrograms:
    def test_parameters_and_buffers_are_read_from_their_table(self, tmp_path):
        """The weights of an exported program lie in the archive as they are, with their ties."""
        found = read_checkpoint(export(tmp_path / "x.pt2"))
        program = torch.export.load(GOLDEN / "exported.pt2")
        assert same_state(dict(found.tensors), dict(program.state_dict))
        assert found.ties == (("one.weight", "other.weight"),)

    @pytest.mark.parametrize(
        ("was", "becomes", "reason"),
        [
            pytest.param('"dtype": 7', '"dtype": 99', "number format that isn't known", id="dtype"),
            pytest.param('"dtype": 7', '"dtype": 8', "doesn't fit the bytes", id="wider"),
            pytest.param('{"as_int": 3}', '{"as_int": 4}', "doesn't fit the bytes", id="larger"),
            pytest.param('{"as_int": 3}', '{"as_int": -3}', "doesn't fit the bytes", id="negative"),
            pytest.param('{"as_int": 3}', '{"as_name": "s"}', "doesn't fit the bytes", id="symbolic"),
            pytest.param('"weight_0"', '"weight_9"', "lacks the weights", id="file missing"),
            pytest.param('"weight_0"', "3", "doesn't say where", id="no file name"),
            pytest.param('{"config"', '{"other"', "'config' of tensors", id="no table"),
        ],
    )
    def test_a_table_that_lies_is_corrupt(self, tmp_path, was, becomes, reason):
        """The table must fit what the archive holds."""

        def edit(name, content):
            table = name.endswith("weights_config.json")
            return content.decode().replace(was, becomes).encode() if table else content

        rewrite_zip(GOLDEN / "exported.pt2", tmp_path / "x.pt2", edit)
        with pytest.raises(CorruptFileError, match=reason):
            read_checkpoint(tmp_path / "x.pt2")

    def test_two_programs_are_not_chosen_from(self, tmp_path):
        """An archive with more than one table of weights is refused."""
        export(tmp_path / "x.pt2")
        with zipfile.ZipFile(tmp_path / "x.pt2", "a") as archive:
            archive.writestr("exported/data/weights/other_weights_config.json", json.dumps({"config": {}}))
        with pytest.raises(CheckpointError, match="2 tables of weights"):
            read_checkpoint(tmp_path / "x.pt2")


def test_a_file_that_torch_did_not_write_is_refused_as_before(tmp_path):
    """A harmless value alone makes no checkpoint."""
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(argparse.Namespace(a=1), protocol=2))
    with pytest.raises(CheckpointError, match=r"x\.pkl"):
        read_checkpoint(tmp_path / "x.pkl")

"""``bioconvert export``: one file of a converted folder."""

from importlib.util import find_spec

import pytest
import torch

import bioconvert as bc
from bioconvert.cli.demo_model import DigitsCNN

ARCH = "bioconvert.cli.demo_model:DigitsCNN"
SHAPE = ("--input-shape", "2,1,8,8")


@pytest.fixture
def folder(bioconvert, tmp_path):
    """A converted folder with mechanisms of plasticity."""
    torch.manual_seed(0)
    torch.save(DigitsCNN().state_dict(), tmp_path / "digits.pt")
    ran = bioconvert("convert", "digits.pt", "--arch", ARCH, "-r", "yat", "-r", "plastic", "-o", "folder")
    assert ran.code == 0, ran.err
    return tmp_path / "folder"


def test_state_dict_loads_into_the_model(bioconvert, folder, tmp_path):
    """pt holds the tensors by the names of bc.load's model, without what only training needs."""
    document = bioconvert("export", "pt", folder, "--out", "model.pt", "--json").document
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    model = bc.load(folder)
    assert set(document["left_out"]) == model.state_dict().keys() - state.keys()
    assert all("fuzzy_lr" in name or "crystallize" in name for name in document["left_out"])
    model.load_state_dict(state)
    assert (document["format"], document["tensors"]) == ("pt", len(state))
    assert (document["difference"], document["compared_by"]) == (None, None)


def test_program_runs_without_the_model(bioconvert, folder, tmp_path):
    """pt2 is a program that computes what the model computes, on a batch of any size."""
    ran = bioconvert("export", "pt2", folder, "--out", "model.pt2", *SHAPE, "--dynamic")
    assert ran.code == 0, ran.err
    assert "largest difference of the outputs: " in ran.out
    x = torch.linspace(-1, 1, 5 * 64).view(5, 1, 8, 8)
    program = torch.export.load(tmp_path / "model.pt2").module()
    assert torch.allclose(program(x), bc.load(folder).eval()(x), atol=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("onnx") is None or find_spec("onnxscript") is None, reason="needs onnx")
def test_onnx_file_is_checked_and_run(bioconvert, folder, tmp_path):
    """onnx is a file that ONNX's own rules accept and whose outputs are compared."""
    import onnx

    document = bioconvert("export", "onnx", folder, "--out", "model.onnx", *SHAPE, "--json").document
    assert document["difference"] < 1e-5
    assert document["compared_by"] in {"onnxruntime", "ONNX's reference implementation"}
    onnx.checker.check_model(onnx.load(tmp_path / "model.onnx"), full_check=True)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        pytest.param(["pt2", "folder", "--out", "x.pt2"], "pt2 needs sample inputs", id="no inputs"),
        pytest.param(["pt", "folder", "--out", "x.pt", "--dynamic"], "--dynamic is for onnx", id="dynamic"),
        pytest.param(["pt", "folder", "--out", "digits.pt"], "--overwrite", id="a file in use"),
        pytest.param(["pt", "folder", "--out", "folder"], "is a folder", id="a folder"),
        pytest.param(["pt", "absent", "--out", "x.pt"], "absent: No such file", id="no folder"),
        pytest.param(
            ["pt2", "folder", "--out", "x.pt2", "--input-shape", "1,2,8,8"], "fails on", id="inputs"
        ),
    ],
)
def test_what_cannot_be_exported(bioconvert, folder, tmp_path, words, text):
    """What can't be meant is 2, in one line, and writes nothing."""
    before = sorted(tmp_path.iterdir())
    ran = bioconvert("export", *words)
    assert (ran.code, ran.out) == (2, "")
    assert text in ran.err.splitlines()[-1]
    assert sorted(tmp_path.iterdir()) == before


def test_folder_of_another_tool(bioconvert, folder, tmp_path):
    """Only folders of bioconvert are exported."""
    ran = bioconvert("export", "pt", tmp_path, "--out", "x.pt")
    assert (ran.code, ran.out) == (3, "")
    assert "bioconvert.json" in ran.err

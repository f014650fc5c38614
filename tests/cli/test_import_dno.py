"""Files of dno as folders of ours, and every way that is refused."""

import io
import json
import zipfile

import pytest
import torch
from torch import nn

import bioconvert as bc
from bioconvert.organism import DynamicNetwork

FACTORY = """
from torch import nn


def make(kind):
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 4)) if kind == "Sequential" else None
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A file with a Linear, and a Sequential that it tells nothing of; the code for it lies beside it."""
    (tmp_path / "organs_here.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(tmp_path)
    layers = {"a": nn.Linear(4, 4), "b": nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 4))}
    state = {
        f"modules_dict.{name}.child_module.{key}": tensor
        for name, layer in layers.items()
        for key, tensor in layer.state_dict().items()
    }
    nodes = [{"uuid": name, "type": type(layer).__name__, "tag": "general"} for name, layer in layers.items()]
    buffer = io.BytesIO()
    torch.save(state, buffer)
    path = tmp_path / "theirs.dno"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("topology.json", json.dumps({"nodes": nodes, "edges": {"a": ["b"]}}))
        archive.writestr("config.json", json.dumps({"d_model": 4, "n_heads": 2}))
        archive.writestr("weights.pt", buffer.getvalue())
    return path, layers


class TestImportDno:
    def test_a_factory_makes_the_network_whole(self, bioconvert, file, tmp_path):
        """The folder is the network, and computes what the layers do."""
        path, layers = file
        result = bioconvert(
            "import", "dno", path, "--out", tmp_path / "out", "--factory", "organs_here:make", "--json"
        )
        told = result.document
        assert (result.code, told["repaired"]) == (0, [])
        assert told["edges"] == {"a": ["b"], "b": []}
        x = torch.linspace(-1, 1, 8).view(2, 4)
        assert torch.equal(bc.load(tmp_path / "out")(x), layers["b"](layers["a"](x)))

    def test_nodes_that_can_not_be_made_are_named(self, bioconvert, file, tmp_path):
        """Nothing is written."""
        result = bioconvert("import", "dno", file[0], "--out", tmp_path / "out")
        assert result.code == 2
        assert "'b' (Sequential): the file doesn't tell what it is made of" in result.err
        assert not (tmp_path / "out").exists()

    def test_repair_says_what_stands_for_what(self, bioconvert, file, tmp_path):
        """And the folder has it."""
        result = bioconvert("import", "dno", file[0], "--out", tmp_path / "out", "--repair")
        assert result.code == 0
        assert "a pass_through stands for 'b'" in result.out
        assert isinstance(bc.load(tmp_path / "out").members["b"].child_module, nn.Identity)

    def test_branches_are_told_of(self, bioconvert, tmp_path):
        """Since dno computes something else with them."""
        network = DynamicNetwork()
        network.add_layer(nn.Linear(4, 4), name="a")
        network.organism.grow("a", tag="expert_a")
        network.save_dno(tmp_path / "n.dno")
        result = bioconvert("import", "dno", tmp_path / "n.dno", "--out", tmp_path / "out")
        assert "expert_a" in result.out
        assert "dno averages over all paths" in result.out

    @pytest.mark.parametrize(
        ("given", "code", "said"),
        [
            (["--factory", "nowhere_at_all:make"], 2, "--factory must be MODULE:FUNCTION"),
            (["--factory", "organs_here:nn"], 2, "--factory must name a function, not a module"),
            (["--repair", "--fallback", "Linear"], 2, "fallback must be one of pass_through, GPTModel"),
        ],
    )
    def test_options_that_can_not_be_used_are_refused(self, bioconvert, file, tmp_path, given, code, said):
        """Nothing is written."""
        result = bioconvert("import", "dno", file[0], "--out", tmp_path / "out", *given)
        assert result.code == code
        assert said in result.err
        assert not (tmp_path / "out").exists()

    def test_what_is_no_such_file_is_refused(self, bioconvert, tmp_path):
        """A missing one is a mistake of the caller, a damaged one of the input."""
        (tmp_path / "junk.dno").write_bytes(b"junk")
        assert bioconvert("import", "dno", tmp_path / "none.dno", "--out", tmp_path / "out").code == 2
        assert bioconvert("import", "dno", tmp_path / "junk.dno", "--out", tmp_path / "out").code == 3

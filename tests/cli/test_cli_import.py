"""Checkpoints of nmn as folders of ours, and every way that is refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import bioconvert as bc

OPTIONS = {"head": "plain", "conv": {"padding": 1}, "**": "defaults"}
ARCH = "imported_net:Net"
CODE = """
from torch import nn
import bioconvert as bc


class Net(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.conv = bc.layers.YatConv2d(1, 6, 3, padding=1, **options)
        self.norm = nn.BatchNorm2d(6)
        self.blocks = nn.Sequential(*(bc.layers.YatLinear(6, 6, **options) for _ in range(3)))
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        return self.head(self.blocks(self.norm(self.conv(x)).mean((-1, -2))))
"""


@pytest.fixture(autouse=True)
def net(tmp_path, monkeypatch):
    """The code of a small model, where --arch finds it."""
    (tmp_path / "imported_net.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "imported_net", raising=False)
    from imported_net import Net

    return Net


@pytest.fixture
def checkpoint(tmp_path, net):
    """A training checkpoint whose names and shapes are those of nmn's layers, of either generation."""
    torch.manual_seed(0)
    model = net().eval()
    torch.save({"state_dict": model.state_dict(), "epoch": 3}, tmp_path / "theirs.pt")
    return model


class TestImport:
    def test_layers_alone(self, bioconvert, checkpoint, net):
        """Without code, the folder has the layers by name, and takes the model by factory=."""
        words = ["import", "nmn", "theirs.pt", "--out", "out", "--generation", "0.3"]
        ran = bioconvert(*words, "--options", json.dumps(OPTIONS))
        assert ran.code == 0, ran.err
        x = torch.randn(2, 1, 8, 8)
        assert torch.equal(bc.load("out").get_submodule("conv")(x), checkpoint.conv(x))
        assert torch.equal(bc.load("out", factory=net).eval()(x), checkpoint(x))

    def test_model_of_our_layers(self, bioconvert, checkpoint):
        """With --arch, the folder is that of the model."""
        words = ["import", "nmn", "theirs.pt", "--out", "out", "--generation", "0.3", "--arch", ARCH]
        ran = bioconvert(*words)
        assert ran.code == 0, ran.err
        x = torch.randn(2, 1, 8, 8)
        assert torch.equal(bc.load("out").eval()(x), checkpoint(x))

    def test_first_generation(self, bioconvert, checkpoint):
        """The generation decides what the layers compute."""
        words = ["import", "nmn", "theirs.pt", "--out", "out", "--generation", "0.1"]
        assert bioconvert(*words, "--options", json.dumps(OPTIONS)).code == 0
        conv = bc.load("out").get_submodule("conv")
        assert (conv.bias_mode, conv.alpha_mode) == ("post", "exponent")

    def test_says_what_became_of_what(self, bioconvert, checkpoint):
        """The table has layers, kinds, generations and options, and fits a terminal."""
        words = ["import", "nmn", "theirs.pt", "--out", "out", "--generation", "0.3"]
        ran = bioconvert(*words, "--options", json.dumps(OPTIONS))
        lines = [" ".join(line.split()) for line in ran.out.splitlines()]
        assert lines[0] == "layer kind generation options"
        assert "blocks.{0..2} YatNMN → YatLinear 0.3 epsilon 1e-05" in lines
        assert "conv YatConv2D → YatConv2d 0.3 epsilon 1e-05, padding 1" in lines
        assert "7 tensors of other modules, as they were" in lines
        assert 'bc.load("out", factory=...)' in ran.out
        assert max(map(len, ran.out.splitlines())) <= 80

    def test_document(self, bioconvert, checkpoint):
        """With --json each layer stands with its options and with what builds it."""
        words = ["import", "nmn", "theirs.pt", "--out", "out", "--generation", "0.3", "--json"]
        document = bioconvert(*words, "--options", json.dumps(OPTIONS)).document
        assert (document["command"], document["out"], document["architecture"]) == ("import nmn", "out", None)
        layers = {layer["path"]: layer for layer in document["layers"]}
        assert list(layers) == ["conv", "blocks.0", "blocks.1", "blocks.2"]
        assert layers["conv"]["options"]["padding"] == 1
        assert layers["conv"]["arguments"]["in_channels"] == 1
        assert "head.weight" in document["others"]

    def test_options_from_a_file(self, bioconvert, checkpoint, tmp_path):
        """Options may stand in a file."""
        (tmp_path / "said.json").write_text(json.dumps(OPTIONS))
        words = ["import", "nmn", "theirs.pt", "--out", "out", "--generation", "0.3"]
        assert bioconvert(*words, "--options", "said.json").code == 0

    def test_prefix_of_a_wrapper(self, bioconvert, checkpoint, tmp_path):
        """What a wrapper put before every name is taken off."""
        state = {f"module.{name}": tensor for name, tensor in checkpoint.state_dict().items()}
        save_file(state, tmp_path / "wrapped.safetensors")
        words = ["import", "nmn", "wrapped.safetensors", "--out", "out", "--generation", "0.3"]
        assert bioconvert(*words, "--arch", ARCH).code == 0
        assert torch.equal(bc.load("out").conv.weight, checkpoint.conv.weight)

    def test_prefix_of_the_model_itself(self, bioconvert, checkpoint, tmp_path):
        """A prefix that belongs to the model's own names is put back."""
        (tmp_path / "outer_net.py").write_text(
            "import bioconvert as bc\nfrom torch import nn\n\n\nclass Outer(nn.Module):\n"
            "    def __init__(self):\n        super().__init__()\n"
            "        self.model = bc.layers.YatLinear(3, 2, learnable_epsilon=True)\n"
        )
        state = bc.layers.YatLinear(3, 2, learnable_epsilon=True).state_dict()
        state["epsilon_param"] = state.pop("raw_epsilon")
        save_file({f"model.{name}": value for name, value in state.items()}, tmp_path / "outer.safetensors")
        ran = bioconvert("import", "nmn", "outer.safetensors", "--out", "out", "--arch", "outer_net:Outer")
        assert ran.code == 0, ran.err
        assert torch.equal(bc.load("out").model.weight, state["weight"])

    def test_model_of_live_layers(self, bioconvert, checkpoint, tmp_path, net):
        """Where --arch builds nmn's own layers, they say themselves what they are."""
        (tmp_path / "live_net.py").write_text(
            "from torch import nn\n\n\nclass YatNMN(nn.Linear):\n    def __init__(self):\n"
            "        super().__init__(6, 2)\n        self.epsilon, self.constant_alpha = 0.5, 2.5\n\n\n"
            "YatNMN.__module__ = 'nmn.torch.nmn.yat_nmn'\n\n\ndef build() -> nn.Module:\n"
            "    return nn.Sequential(YatNMN())\n"
        )
        save_file({"0.weight": torch.ones(2, 6), "0.bias": torch.ones(2)}, tmp_path / "live.safetensors")
        ran = bioconvert("import", "nmn", "live.safetensors", "--out", "out", "--arch", "live_net:build")
        assert ran.code == 0, ran.err
        assert "factory() builds the model from bioconvert's layers" in ran.out

        def factory():
            return nn.Sequential(bc.layers.YatLinear(6, 2, epsilon=0.5, alpha=2.5))

        assert torch.equal(bc.load("out", factory=factory)[0].weight, torch.ones(2, 6))


class TestRefusal:
    @pytest.fixture
    def refused(self, bioconvert, tmp_path):
        """Run an import that must fail with a code and leave no folder behind."""

        def run(code, *words):
            ran = bioconvert("import", "nmn", *words, "--out", "out")
            assert (ran.code, ran.out) == (code, ""), ran.err
            assert "Traceback" not in ran.err
            assert not (tmp_path / "out").exists()
            assert [path.name for path in Path(tmp_path).glob(".*bioconvert*")] == []
            return ran.err

        return run

    def test_every_gap_at_once(self, refused, checkpoint):
        """What tensors don't tell is named at once: 2."""
        words = refused(2, "theirs.pt")
        assert "the generation (0.1 for nmn 0.1.0 to 0.2.6" in words
        assert "blocks.0, blocks.1, blocks.2: of a YatNMN, epsilon" in words
        assert "head: the kind, YatNMN or plain" in words

    def test_no_checkpoint_of_nmn(self, refused, tmp_path):
        """A checkpoint of something else is 2, with its names."""
        save_file({"fc.weight": torch.zeros(2, 2)}, tmp_path / "other.safetensors")
        words = refused(2, "other.safetensors", "--generation", "0.3")
        assert "no checkpoint of nmn" in words
        assert "fc.weight" in words

    def test_code_in_a_pickle_is_not_run(self, refused, tmp_path):
        """A pickle that would run code is 3, and the code didn't run."""

        class Evil:
            def __reduce__(self):
                return (tmp_path / "canary").touch, ()

        torch.save({"weight": Evil()}, tmp_path / "evil.pt")
        assert "evil.pt" in refused(3, "evil.pt", "--generation", "0.3")
        assert not (tmp_path / "canary").exists()

    def test_damaged_bytes_come_before_the_architecture(self, refused, tmp_path):
        """A damaged checkpoint is 3, though its architecture is unknown too."""
        (tmp_path / "bad.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      rest")
        assert "bad.safetensors" in refused(3, "bad.safetensors", "--arch", "no:where")

    def test_model_that_does_not_fit(self, refused, checkpoint, tmp_path):
        """Tensors that have no place in the model are 2, with their names."""
        save_file({"other.weight": torch.zeros(2, 2)}, tmp_path / "other.safetensors")
        assert "other.weight" in refused(2, "other.safetensors", "--arch", ARCH, "--generation", "0.3")

    def test_model_of_the_other_generation(self, refused, checkpoint):
        """A model that computes what the other generation did is 2, with every layer."""
        words = refused(2, "theirs.pt", "--arch", ARCH, "--generation", "0.1")
        assert "conv: bias_mode must be 'post', but is 'pre'" in words
        assert "blocks.2: alpha must be 'exponent', but is 'learnable'" in words

    @pytest.mark.parametrize(
        ("words", "text"),
        [
            pytest.param(["absent.pt"], "absent.pt: No such file or directory", id="no file"),
            pytest.param(["theirs.pt", "--generation", "2"], "the generation must be 0.1", id="generation"),
            pytest.param(["theirs.pt", "--options", "{"], "--options must be JSON", id="no JSON"),
            pytest.param(["theirs.pt", "--options", "x.json"], "x.json: No such file", id="no options file"),
            pytest.param(["theirs.pt", "--options", "{}", "--arch", ARCH], "give one of the two", id="both"),
            pytest.param(["theirs.pt", "--options", '{"a": 1}'], "'a': must be an object", id="options"),
        ],
    )
    def test_usage(self, refused, checkpoint, words, text):
        """What can't be meant is 2, with what would be."""
        assert text in refused(2, *words)

    def test_existing_folder_needs_overwrite(self, bioconvert, checkpoint, tmp_path):
        """A folder with something in it is left alone, unless --overwrite says otherwise."""
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine.txt").write_text("mine")
        words = ["import", "nmn", "theirs.pt", "--out", "out", "--generation", "0.3", "--arch", ARCH]
        assert bioconvert(*words).code == 2
        assert (tmp_path / "out" / "mine.txt").read_text() == "mine"
        assert bioconvert(*words, "--overwrite").code == 0

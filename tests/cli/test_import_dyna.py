"""Checkpoints with layers of dyna as folders of ours, and every way that is refused."""

import json

import pytest
import torch
from dyna_states import LENGTH, POINTS, RANK, SUBSPACES, at, composed, composer, conv, convolved
from safetensors.torch import save_file

import bioconvert as bc

OPTIONS = {"blocks.*": {"in_channels": 4, "padding": 1}, "up": {"padding": 0}}
ARCH = "composed_net:Net"
CODE = f"""
import torch
from torch import nn

import bioconvert as bc


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(
            bc.layers.DynamicConv2dDelta(4, 4, {LENGTH}, padding=1, rank={RANK}) for _ in range(3)
        )
        self.up = bc.layers.DynamicConv2dMobius(
            4, 6, {LENGTH}, n_subspaces={SUBSPACES}, rank_subspace={RANK}, rank_transformations={POINTS}
        )
        self.head = bc.layers.TensorComposerDelta({LENGTH}, 6, 2, rank={RANK})
        self.norm = nn.BatchNorm2d(6)

    def forward(self, x, context):
        for block in self.blocks:
            x = x + block(x, context)
        y = self.norm(self.up(x, context)).mean((-1, -2))
        return torch.bmm(y.unsqueeze(1), self.head(context)).squeeze(1)
"""


@pytest.fixture(autouse=True)
def net(tmp_path, monkeypatch):
    """The code of a small model of our layers, where --arch finds it."""
    (tmp_path / "composed_net.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "composed_net", raising=False)
    from composed_net import Net

    return Net


@pytest.fixture
def state(tmp_path):
    """A training checkpoint whose names and shapes are those of dyna's layers."""
    state = {}
    for block in range(3):
        state |= at(f"blocks.{block}", conv("delta", 12, 12, 4, seed=block, dtype=torch.float32))
    state |= at("up", conv("mobius", 18, 12, 6, seed=9, dtype=torch.float32))
    state |= at("head", composer("delta", 6, 2, seed=8, dtype=torch.float32))
    state |= at("norm", torch.nn.BatchNorm2d(6).state_dict())
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "theirs.pt")
    return state


def inputs():
    return torch.randn(2, 4, 7, 8), torch.randn(2, LENGTH)


def of(path, state):
    return {
        name.removeprefix(f"{path}."): each.double() if each.is_floating_point() else each
        for name, each in state.items()
        if name.startswith(f"{path}.")
    }


def near(found, expected):
    return (found.double() - expected).norm() < 1e-4 * expected.norm()


def words(*more):
    return ["import", "dyna", "theirs.pt", "--out", "out", *more]


class TestImport:
    def test_layers_alone(self, bioconvert, state):
        """Without code, the folder has the layers by name, which compute what dyna's do."""
        ran = bioconvert(*words("--options", json.dumps(OPTIONS)))
        assert ran.code == 0, ran.err
        model, (x, context) = bc.load("out").eval(), inputs()
        block, up, wide = of("blocks.2", state), of("up", state), (x.double(), context.double())
        found = model.get_submodule("blocks.2")(x, context)
        assert near(found, convolved("delta", block, *wide, (4, 4, 3, 3), sides=(1, 1, 1, 1)))
        found = model.get_submodule("up")(x, context)
        assert near(found, convolved("mobius", up, *wide, (6, 4, 3, 3), sides=(0, 0, 0, 0)))
        head = composed("delta", of("head", state), context.double())
        assert near(model.get_submodule("head")(context), head)

    def test_model_by_factory(self, bioconvert, state, net):
        """The folder of the layers takes the model's code by factory=."""
        options = OPTIONS | {"up": {"padding": 0}}
        assert bioconvert(*words("--options", json.dumps(options))).code == 0
        model, (x, context) = bc.load("out", factory=net).eval(), inputs()
        assert torch.equal(model.up(x, context), bc.load("out").eval().get_submodule("up")(x, context))

    def test_model_of_our_layers(self, bioconvert, state):
        """With --arch, the folder is that of the model, whose layers say what tensors don't."""
        ran = bioconvert(*words("--arch", ARCH))
        assert ran.code == 0, ran.err
        assert "assumed" not in ran.out
        model, (x, context) = bc.load("out").eval(), inputs()
        assert model(x, context).isfinite().all()
        block = of("blocks.0", state)
        expected = convolved("delta", block, x.double(), context.double(), (4, 4, 3, 3), sides=(1, 1, 1, 1))
        assert near(model.blocks[0](x, context), expected)

    @pytest.mark.parametrize("kind", ["delta", "mobius"])
    def test_one_layer_is_the_whole_model(self, bioconvert, tmp_path, kind):
        """A checkpoint of a single layer becomes a folder of that layer."""
        state = composer(kind, 6, 9, dtype=torch.float32)
        save_file(state, tmp_path / "one.safetensors")
        ran = bioconvert("import", "dyna", "one.safetensors", "--out", "out")
        assert ran.code == 0, ran.err
        assert "no forward" not in ran.out
        context = inputs()[1]
        expected = composed(kind, {name: each.double() for name, each in state.items()}, context.double())
        assert near(bc.load("out").eval()(context), expected)

    def test_prefix_of_a_wrapper(self, bioconvert, state, tmp_path):
        """What a wrapper put before every name is taken off."""
        save_file({f"module.{name}": each for name, each in state.items()}, tmp_path / "w.safetensors")
        ran = bioconvert("import", "dyna", "w.safetensors", "--out", "out", "--arch", ARCH)
        assert ran.code == 0, ran.err
        assert torch.equal(bc.load("out").up.weights_lib.w_mix, state["up.weights_lib.w_mix"])

    def test_says_what_became_of_what(self, bioconvert, state):
        """Layers, assumptions and differences are told, and fit a terminal."""
        ran = bioconvert(*words("--options", json.dumps(OPTIONS)))
        lines = [" ".join(line.split()) for line in ran.out.splitlines()]
        assert lines[0] == "layer becomes sizes"
        assert lines[1] == "blocks.{0..2} DynamicConv2dDelta 4 → 4, 3×3, padding 1, context 5, rank 3"
        shown = " ".join(ran.out.split())
        assert "head repulsion 0.3, noise 0.01, rank_noise 0.01, similarity 0.1" in shown
        assert "up asymmetry 0.001, kernel_size 3, stride 1, dilation 1, transpose no head" in shown
        for difference in ("rank noise:", "latent of Möbius:", "siglog:", "index tensor:", "padding_dynamic"):
            assert f"- {difference}" in shown
        assert "5 tensors of other modules, as they were" in lines
        assert max(map(len, ran.out.splitlines())) <= 80

    @pytest.mark.parametrize("more", [["--options", json.dumps(OPTIONS)], ["--arch", ARCH]])
    def test_document(self, bioconvert, state, more):
        """With --json each layer stands with what builds it, by shapes or by the model."""
        document = bioconvert(*words(*more, "--json")).document
        assert document["command"] == "import dyna"
        layers = {layer["path"]: layer for layer in document["layers"]}
        assert list(layers) == ["blocks.0", "blocks.1", "blocks.2", "up", "head"]
        known = {"in_channels": 4, "out_channels": 6, "rank_transformations": POINTS, "offset_dynamic": True}
        assert known.items() <= layers["up"]["arguments"].items()
        assert layers["up"]["unused"] == ["padding_dynamic_value"]
        assert len(document["others"]) == 5
        assert len(document["differences"]) == 5
        for layer in layers.values():
            getattr(bc.layers, layer["becomes"])(**layer["arguments"])


class TestRefusal:
    @pytest.fixture
    def refused(self, bioconvert, tmp_path):
        """Run an import that must fail with a code and leave no folder behind."""

        def run(code, *more):
            ran = bioconvert("import", "dyna", *more, "--out", "out")
            assert (ran.code, ran.out) == (code, ""), ran.err
            assert "Traceback" not in ran.err
            assert not (tmp_path / "out").exists()
            assert list(tmp_path.glob(".*bioconvert*")) == []
            return ran.err

        return run

    def test_every_problem_at_once(self, refused, state, tmp_path):
        """What is missing, contradictory or unsaid is named at once: 2."""
        del state["head.extras"]
        state["up.bias_dynamic_weights_lib"] = torch.zeros(1, 12, 18)
        torch.save(state, tmp_path / "theirs.pt")
        text = refused(2, "theirs.pt", "--options", '{"up": {"padding": 0}}')
        assert "blocks.0, blocks.1, blocks.2: padding must be said by options" in text
        assert "blocks.0, blocks.1, blocks.2: in_channels or out_channels must be said" in text
        assert "up: as a DynamicConv2dMobius, bias_dynamic_weights_lib must be [1, 18, 12]" in text
        assert "head: as a TensorComposerDelta, it lacks extras" in text

    def test_no_layer_of_dyna(self, refused, tmp_path):
        """A checkpoint of something else is 2, with its names."""
        save_file({"fc.weight": torch.zeros(2, 2)}, tmp_path / "other.safetensors")
        text = refused(2, "other.safetensors")
        assert "no checkpoint with layers of dyna" in text
        assert "fc.weight" in text

    def test_damaged_bytes_come_before_the_architecture(self, refused, tmp_path):
        """A damaged checkpoint is 3, though its architecture is unknown too."""
        (tmp_path / "bad.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      rest")
        assert "bad.safetensors" in refused(3, "bad.safetensors", "--arch", "no:where")

    def test_model_that_does_not_fit(self, refused, state, tmp_path):
        """Tensors that the model lacks, and the other way round, are 2, with their names."""
        state["head.more"] = torch.zeros(2)
        del state["norm.weight"]
        torch.save(state, tmp_path / "theirs.pt")
        text = refused(2, "theirs.pt", "--arch", ARCH)
        assert "head.more" in text
        assert "norm.weight" in text

    @pytest.mark.parametrize(
        ("more", "text"),
        [
            pytest.param(["absent.pt"], "absent.pt: No such file or directory", id="no file"),
            pytest.param(["theirs.pt", "--options", "[1]"], "[1]: No such file", id="no options file"),
            pytest.param(["theirs.pt", "--options", "{}", "--arch", ARCH], "give one of the two", id="both"),
            pytest.param(
                ["theirs.pt", "--options", '{"a": {"pad": 1}}'], "unknown option 'pad'", id="unknown option"
            ),
            pytest.param(
                ["theirs.pt", "--arch", "torch.nn:Identity"], "no layer of bioconvert", id="no layers"
            ),
        ],
    )
    def test_usage(self, refused, state, more, text):
        """What can't be meant is 2, with what would be."""
        assert text in refused(2, *more)

    def test_existing_folder_needs_overwrite(self, bioconvert, state, tmp_path):
        """A folder with something in it is left alone, unless --overwrite says otherwise."""
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine.txt").write_text("mine")
        assert bioconvert(*words("--arch", ARCH)).code == 2
        assert (tmp_path / "out" / "mine.txt").read_text() == "mine"
        assert bioconvert(*words("--arch", ARCH, "--overwrite")).code == 0

"""Checkpoints of which nothing says the architecture: what rules can do, and what they can't."""

import copy
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

import bioconvert as bc
from bioconvert.checkpoint import Architecture
from bioconvert.checkpoint.architectures.tensor_trees import TensorTree, build_tree
from bioconvert.core.errors import ArchitectureError, CheckpointError
from bioconvert.ruleset import RuleSet

BY_NAME = """
version: 1
name: by-name
rules:
  - match: {parameter: "**.weight", where: {ndim: 2, dtype: float32}}
    attach: [fuzzy_lr, {crystallize: {every: 2}}]
  - match: {path: head}
    keep: true
"""


def tensors():
    """Tensors of no known model: some named like attributes of modules, one a counter."""
    torch.manual_seed(0)
    return {
        "stem.type.weight": torch.randn(6, 4),
        "stem.type.bias": torch.randn(6),
        "stem.half.weight": torch.randn(3, 3).bfloat16(),
        "stem.steps": torch.tensor(7),
        "forward": torch.randn(2),
        "head.weight": torch.randn(2, 6),
    }


@pytest.fixture
def files(tmp_path):
    """A checkpoint and rules that select by name."""
    save_file(tensors(), tmp_path / "net.safetensors")
    (tmp_path / "by-name.yaml").write_text(BY_NAME)
    return tmp_path


@pytest.fixture
def converted(bioconvert, files):
    """The converted folder."""
    ran = bioconvert("convert", "net.safetensors", "--rules", "by-name.yaml", "--out", "out")
    assert ran.code == 0, ran.err
    return files / "out"


class TestByName:
    def test_folder_loads_as_the_converted_tree(self, converted):
        """bc.load gives a tree with every tensor under its own name, and the additions beside them."""
        model = bc.load(converted)
        assert isinstance(model, TensorTree)
        state = model.state_dict()
        assert {name: state[name].dtype for name in tensors()} == {n: t.dtype for n, t in tensors().items()}
        assert all(torch.equal(state[name], tensor) for name, tensor in tensors().items())
        assert state.keys() - tensors().keys() == {
            "stem.type.fuzzy_lr_rate",
            "stem.type.crystallize_rate",
        }

    def test_the_mechanisms_work(self, converted):
        """The attached mechanisms drive an optimizer that is given the tree's parameters."""
        model = bc.load(converted)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        plasticity = bc.Plasticity(model).bind(optimizer)
        before = model.get_parameter("head.weight").clone()
        sum(parameter.float().square().sum() for parameter in model.parameters()).backward()
        optimizer.step()
        assert not torch.equal(model.get_parameter("head.weight"), before)
        assert plasticity is not None

    def test_equals_the_conversion_in_memory(self, converted):
        """A tree that is built and converted in memory has the same tensors."""
        codes = {torch.float32: "F32", torch.bfloat16: "BF16", torch.int64: "I64"}
        tree = build_tree({name: (codes[t.dtype], tuple(t.shape)) for name, t in tensors().items()})
        tree.load_state_dict(tensors())
        bc.convert(tree, RuleSet.from_text(BY_NAME))
        ours, theirs = bc.load(converted).state_dict(), tree.state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)

    def test_inspect_names_the_tree(self, bioconvert, converted):
        """What the folder holds can be shown."""
        document = bioconvert("inspect", converted, "--json").document
        assert document["conversion"]["architecture"] == "tensors:tree"
        assert len(document["tensors"]) == len(tensors()) + 2
        assert document["conversion"]["changes"] == [
            {"count": 1, "was": "(a parameter)", "becomes": f"attach {name}", "reason": ""}
            for name in ("fuzzy_lr", "crystallize")
        ]

    def test_revert_gives_the_tensors_back(self, bioconvert, converted):
        """Reverting leaves the source's tensors."""
        assert bioconvert("revert", converted, "--out", "back").code == 0
        back = load_file(converted.parent / "back" / "model.safetensors")
        assert back.keys() == tensors().keys()
        assert all(torch.equal(back[name], tensor) for name, tensor in tensors().items())

    def test_verify_finds_it_sound(self, bioconvert, converted):
        """The hashes agree."""
        assert bioconvert("verify", converted).code == 0

    def test_plan_names_parameters(self, bioconvert, files):
        """The plan shows each parameter that a rule selects."""
        plan = bioconvert("plan", "net.safetensors", "-r", "by-name.yaml", "--json").document["plan"]
        assert {entry["path"] for entry in plan["applied"]} == {"stem.type.weight"}

    def test_a_converted_folder_is_converted_again(self, bioconvert, converted):
        """A folder of a tree is a checkpoint like any other."""
        ran = bioconvert("convert", converted, "--rules", "by-name.yaml", "--out", "twice")
        assert ran.code == 0, ran.err
        once, twice = bc.load(converted).state_dict(), bc.load(converted.parent / "twice").state_dict()
        assert all(torch.equal(once[name], twice[name]) for name in once)


@pytest.mark.parametrize(
    ("rule", "need"),
    [
        pytest.param("match: {type: linear}\n    attach: [fuzzy_lr]", "selects by type", id="type"),
        pytest.param("match: {path: stem.*}\n    replace: {with: YatLinear}", "replaces", id="replacement"),
        pytest.param("match: {path: stem}\n    wrap: {}", "wraps", id="wrapping"),
        pytest.param(
            "match: {path: stem.*, followed_by: [ReLU]}\n    attach: [fuzzy_lr]",
            "selects by followed_by",
            id="followed by",
        ),
    ],
)
def test_rules_that_need_modules_are_refused(bioconvert, files, rule, need):
    """A rule that needs more than tensors is 2, named with what it needs, and nothing is written."""
    (files / "mine.yaml").write_text(f"version: 1\nname: mine\nrules:\n  - name: some\n    {rule}\n")
    ran = bioconvert("convert", "net.safetensors", "--rules", "mine.yaml", "--out", "out")
    assert (ran.code, ran.out) == (2, "")
    assert f"rule 'some' {need}" in ran.err
    assert "Name the architecture by --arch timm:NAME" in ran.err
    assert not (files / "out").exists()


def test_inputs_need_an_architecture(bioconvert, files):
    """Tensors can't be run on samples."""
    words = ["net.safetensors", "--rules", "by-name.yaml", "--out", "out", "--input-shape", "1,4"]
    ran = bioconvert("convert", *words)
    assert ran.code == 2
    assert "samples are given for a model to run on" in ran.err


def test_explaining_says_what_is_lacking(bioconvert, files):
    """`explain` refuses such rules too, and explains those by name."""
    refused = bioconvert("explain", "stem.type", "net.safetensors", "--rules", "yat")
    assert (refused.code, "Name the architecture by --arch" in refused.err) == (2, True)
    ran = bioconvert("explain", "stem.type", "net.safetensors", "--rules", "by-name.yaml")
    assert ran.code == 0, ran.err


def test_known_model_is_named(bioconvert, files, torchvision):
    """The tensors of a known model lead to its name, which is only said."""
    torch.save(torchvision.models.squeezenet1_0(num_classes=3).state_dict(), files / "net.pt")
    ran = bioconvert("convert", "net.pt", "--rules", "yat", "--out", "out")
    assert ran.code == 2
    assert "try --arch torchvision:squeezenet1_0 --arch-args '{\"num_classes\": 3}'" in ran.err


def test_what_the_file_says_is_passed_on(bioconvert, files):
    """A training script's own word for the architecture is said, and not taken."""
    torch.save({"arch": "my_net", "state_dict": tensors()}, files / "net.pth.tar")
    ran = bioconvert("convert", "net.pth.tar", "--rules", "yat", "--out", "out")
    assert ran.code == 2
    assert "The file calls it 'my_net'. Name the architecture by --arch" in ran.err


def test_tied_tensors_stay_tied(bioconvert, files):
    """Tensors that share memory in the source are one parameter with one rate."""
    weight = torch.randn(5, 3)
    torch.save({"in.weight": weight, "out.weight": weight}, files / "tied.pt")
    ran = bioconvert("convert", "tied.pt", "--rules", "by-name.yaml", "--out", "out")
    assert ran.code == 2  # the rule about the head matches nothing
    (files / "by-name.yaml").write_text(BY_NAME.partition("  - match: {path: head}")[0])
    ran = bioconvert("convert", "tied.pt", "--rules", "by-name.yaml", "--out", "out")
    assert ran.code == 0, ran.err
    model = bc.load(files / "out")
    assert model.get_parameter("in.weight") is model.get_parameter("out.weight")
    assert [name for name in model.state_dict() if "fuzzy" in name] == ["in.fuzzy_lr_rate"]


class TestTree:
    @pytest.mark.parametrize("name", ["a..b", "", ".a", "a.", ".".join("a" * 300)])
    def test_names_that_no_tree_has(self, name):
        """Empty parts of names, and names of very many parts, are refused."""
        with pytest.raises(CheckpointError, match="must have a dotted name"):
            build_tree({name: ("F32", (1,))})

    def test_formats_that_torch_lacks(self):
        """A number format of safetensors that torch doesn't have is named."""
        with pytest.raises(CheckpointError, match="'a' is F4, which torch has no number format for"):
            build_tree({"a": ("F4", (1,))})

    @pytest.mark.parametrize(
        "args",
        [
            pytest.param({}, id="no tensors"),
            pytest.param({"tensors": {"a": ["F32"]}}, id="no shape"),
            pytest.param({"tensors": {"a": ["F32", [-1]]}}, id="negative size"),
            pytest.param({"tensors": {"a": ["F32", [1 << 62]]}}, id="more than memory"),
            pytest.param({"tensors": {"a": ["F32", [1]]}, "ties": 3}, id="no groups"),
        ],
    )
    def test_malformed_descriptions(self, args):
        """What a manifest may say wrongly of a tree is an error about the architecture."""
        with pytest.raises(ArchitectureError):
            Architecture("tensors", "tree", args).build(trusted=False)

    def test_is_copied_and_pickled(self):
        """A tree of the greatest depth can be copied and pickled."""
        name = ".".join("a" * 64)
        tree = build_tree({name: ("F32", (1,))})
        for made in (copy.deepcopy(tree), pickle.loads(pickle.dumps(tree))):
            assert list(made.state_dict()) == [name]

    def test_cannot_be_run(self):
        """Calling a tree says why it can't be called."""
        with pytest.raises(ArchitectureError, match="nothing says what is computed"):
            build_tree({"a": ("F32", (1,))})(torch.zeros(1))

    def test_modules_are_found_whatever_their_names(self):
        """A part of a path may be the name of a method of modules."""
        tree = build_tree({"a.type.half.weight": ("F32", (1,))})
        assert list(tree.get_submodule("a.type.half")._parameters) == ["weight"]
        assert tree.get_submodule("") is tree
        with pytest.raises(AttributeError, match=r"no module 'a\.half'"):
            tree.get_submodule("a.half")

    def test_a_name_may_lead_to_a_tensor_and_to_others(self):
        """A tensor and a module may have the same name."""
        assert list(build_tree({"a.b": ("F32", (1,)), "a": ("I8", (2,))}).state_dict()) == ["a", "a.b"]

"""What diff says of two checkpoints."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import bioconvert as bc

BASE = {
    **{f"blocks.{i}.weight": torch.full((4, 4), float(i + 1)) for i in range(12)},
    **{f"blocks.{i}.bias": torch.zeros(4) for i in range(12)},
    "step": torch.tensor(3),
}


@pytest.fixture
def base(tmp_path):
    """A safetensors file."""
    save_file(BASE, tmp_path / "a.safetensors")
    return tmp_path / "a.safetensors"


def _pickled(folder):
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in BASE.items()}}, folder / "b.pt")
    return folder / "b.pt"


def _prefixed(folder):
    save_file({f"module.{name}": tensor for name, tensor in BASE.items()}, folder / "b.safetensors")
    return folder / "b.safetensors"


def _sharded(folder):
    names = sorted(BASE)
    for number, part in enumerate((names[:9], names[9:])):
        save_file({name: BASE[name] for name in part}, folder / f"part-{number}.safetensors")
    weight_map = {name: f"part-{int(names.index(name) >= 9)}.safetensors" for name in names}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return index


@pytest.mark.parametrize("write", [_pickled, _prefixed, _sharded])
def test_the_same_in_another_format_is_equal(bioconvert, base, tmp_path, write):
    """Format, shards, nesting and the prefixes of wrappers make no difference; the code is 0."""
    ran = bioconvert("diff", base, write(tmp_path))
    assert (ran.code, ran.out) == (0, "25 tensors the same in all values\n")
    assert bioconvert("diff", base, tmp_path / "a.safetensors", "--json").document["equal"] is True


def _changed(**updates):
    return {name: tensor for name, tensor in {**BASE, **updates}.items() if tensor is not None}


CHANGES = [
    pytest.param({"step": None}, "only_a", "1 tensor only in A", id="only in A"),
    pytest.param({"head": torch.zeros(2)}, "only_b", "1 tensor only in B", id="only in B"),
    pytest.param(
        {"step": torch.tensor([3])}, "changed", "1 tensor of another type or shape", id="another shape"
    ),
    pytest.param(
        {"step": torch.tensor(3.0)}, "changed", "1 tensor of another type or shape", id="another type"
    ),
    pytest.param({"step": torch.tensor(5)}, "changed", "1 tensor of other values", id="other values"),
]


@pytest.mark.parametrize(("updates", "key", "text"), CHANGES)
def test_differences_end_in_one(bioconvert, base, tmp_path, updates, key, text):
    """Each kind of difference has its list and its table, and the code is 1."""
    save_file(_changed(**updates), tmp_path / "b.safetensors")
    ran = bioconvert("diff", base, tmp_path / "b.safetensors")
    found = bioconvert("diff", base, tmp_path / "b.safetensors", "--json")
    assert (ran.code, found.code) == (1, 1)
    assert text in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80
    assert {name: len(found.document[name]) for name in ("only_a", "only_b", "changed")} == {
        **dict.fromkeys(("only_a", "only_b", "changed"), 0),
        key: 1,
    }


def test_values_are_measured(bioconvert, base, tmp_path):
    """How many values differ, by how much at most and in relation to the norm, is in the document."""
    save_file(_changed(step=torch.tensor(5)), tmp_path / "b.safetensors")
    (changed,) = bioconvert("diff", base, tmp_path / "b.safetensors", "--json").document["changed"]
    assert changed["values"] == {
        "values": 1,
        "differing": 1,
        "largest": 2.0,
        "relative": pytest.approx(2 / 3),
        "not_finite": 0,
    }


def test_structure_reads_no_values(bioconvert, base, tmp_path):
    """--structure finds checkpoints of other values the same."""
    save_file(_changed(step=torch.tensor(5)), tmp_path / "b.safetensors")
    ran = bioconvert("diff", base, tmp_path / "b.safetensors", "--structure")
    assert (ran.code, ran.out) == (0, "25 tensors the same in name, type and shape\n")


def test_repeated_blocks_are_folded(bioconvert, base, tmp_path):
    """Blocks that differ alike are one row, and --all shows each."""
    others = {f"blocks.{i}.bias": torch.ones(4) for i in range(12)}
    save_file(_changed(**others), tmp_path / "b.safetensors")
    assert (
        "blocks.{0..11}.bias  4       4       1" in bioconvert("diff", base, tmp_path / "b.safetensors").out
    )
    every = bioconvert("diff", base, tmp_path / "b.safetensors", "--all").out
    assert sum(line.startswith("blocks.") for line in every.splitlines()) == 12


def test_the_furthest_comes_first(bioconvert, base, tmp_path):
    """Tensors of other values are sorted by their relative distance."""
    others = {f"blocks.{i}.weight": BASE[f"blocks.{i}.weight"] + i / 100 for i in (1, 3, 2)}
    save_file(_changed(**others), tmp_path / "b.safetensors")
    lines = bioconvert("diff", base, tmp_path / "b.safetensors").out.splitlines()
    assert [line.split()[0] for line in lines if line.startswith("blocks")] == [
        f"blocks.{i}.weight" for i in (3, 2, 1)
    ]


class TestConvertedFolders:
    @pytest.fixture
    def folders(self, tmp_path):
        """A model, and its conversions with two values of epsilon."""
        for name, epsilon in (("one", 1e-3), ("two", 1e-2)):
            torch.manual_seed(0)
            model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
            if name == "one":
                save_file(model.state_dict(), tmp_path / "plain.safetensors")
            rule = {"match": {"path": "0"}, "replace": {"with": "YatLinear", "epsilon": epsilon}}
            bc.convert(model, {"version": 1, "name": "r", "rules": [{"name": "first", **rule}]})
            bc.save(model, tmp_path / name)
        return tmp_path

    def test_classes_before_and_after(self, bioconvert, folders):
        """What a conversion made of a module is told with its rule."""
        document = bioconvert("diff", folders / "plain.safetensors", folders / "one", "--json").document
        assert document["modules"] == [
            {
                "path": "0",
                "a": {"steps": ["Linear"], "rules": []},
                "b": {"steps": ["YatLinear"], "rules": ["first"]},
                "options": {},
            }
        ]
        assert [tensor["name"] for tensor in document["only_b"]] == ["0.alpha"]

    def test_other_options_are_a_difference(self, bioconvert, folders):
        """Folders of equal tensors whose layers have other options differ."""
        ran = bioconvert("diff", folders / "one", folders / "two", "--json")
        assert (ran.code, ran.document["changed"]) == (1, [])
        assert ran.document["modules"][0]["options"]["epsilon"] == [1e-3, 1e-2]
        assert "YatLinear: epsilon 0.001" in bioconvert("diff", folders / "one", folders / "two").out

    def test_damage_is_an_error(self, bioconvert, folders):
        """A folder whose file is cut short can't be compared; the code is 3."""
        shutil.copytree(folders / "one", folders / "cut")
        weights = folders / "cut" / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-4])
        ran = bioconvert("diff", folders / "one", folders / "cut")
        assert (ran.code, ran.out) == (3, "")
        assert "4 bytes are missing" in ran.err


def test_weights_of_one_training_checkpoint(bioconvert, tmp_path):
    """Two state dicts of one file are compared by naming each."""
    torch.save({"model": {"w": torch.ones(2)}, "ema": {"w": torch.zeros(2)}}, tmp_path / "both.pt")
    words = ("diff", "both.pt", "both.pt", "--weights-a", "model", "--json")
    assert bioconvert(*words, "--weights-b", "model").document["equal"] is True
    (changed,) = bioconvert(*words, "--weights-b", "ema").document["changed"]
    assert (changed["name"], changed["values"]["largest"]) == ("w", 1.0)


def test_missing_file(bioconvert, base):
    """A path with nothing there is named, and the code is 2."""
    ran = bioconvert("diff", base, "nothing.pt")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "error: nothing.pt: No such file or directory\n"

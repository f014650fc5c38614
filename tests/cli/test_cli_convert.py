"""From a checkpoint to a converted folder, and every way it can be refused."""

import os
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import bioconvert as bc
import bioconvert.checkpoint as bioconvert_checkpoint
from bioconvert.cli.demo_model import DigitsCNN

ARCH = "bioconvert.cli.demo_model:DigitsCNN"
SHAPE = "4,1,8,8"


@pytest.fixture
def checkpoint(tmp_path):
    """A state dict of the small network, in a file."""
    torch.manual_seed(0)
    path = tmp_path / "digits.pt"
    torch.save(DigitsCNN().state_dict(), path)
    return path


@pytest.fixture
def converted(bioconvert, checkpoint):
    """A converted folder."""
    ran = bioconvert("convert", checkpoint, "--arch", ARCH, "--rules", "yat", "--out", "out")
    assert ran.code == 0, ran.err
    return checkpoint.parent / "out"


class TestConvert:
    def test_folder_loads_as_the_converted_model(self, converted):
        """bc.load gives back the model with its new classes and its old weights."""
        model = bc.load(converted)
        old = torch.load(converted.parent / "digits.pt")
        assert type(model.block1[0]).__name__ == "YatConv2d"
        assert torch.equal(model.block1[0].weight, old["block1.0.weight"])

    def test_says_what_became_of_what(self, bioconvert, checkpoint):
        """The result counts classes, gives reasons, the drift, the place, and the line to load it with."""
        ran = bioconvert(
            "convert", checkpoint, "--arch", ARCH, "-r", "yat", "-o", "out", "--input-shape", SHAPE
        )
        assert ran.code == 0
        assert re.search(r"\d +Conv2d +YatConv2d", ran.out)
        assert "drift of the output: " in ran.out
        assert "written to out\n" in ran.out
        assert 'bc.load("out")' in ran.out
        assert max(map(len, ran.out.splitlines())) <= 80
        assert "reading" in ran.err

    def test_document(self, bioconvert, checkpoint):
        """With --json the summary, the report and the drift are values, and stdout holds nothing else."""
        words = ["convert", checkpoint, "--arch", ARCH, "--rules", "yat", "--out", "out", "--json"]
        document = bioconvert(*words, "--input-shape", SHAPE).document
        assert (document["rules"], document["architecture"], document["seed"]) == ("yat", ARCH, 0)
        assert document["out"] == "out"
        assert {"count", "was", "becomes", "reason"} == document["summary"][0].keys()
        assert sum(line["count"] for line in document["summary"] if not line["reason"]) == len(
            document["report"]["applied"]
        )
        assert {"layers", "output"} == document["drift"].keys()

    def test_same_input_same_bytes(self, bioconvert, checkpoint):
        """The same command writes the same files."""
        for out in ("one", "two"):
            bioconvert("convert", checkpoint, "--arch", ARCH, "-r", "yat", "-o", out, "--input-shape", SHAPE)
        one, two = (
            {path.name: path.read_bytes() for path in (checkpoint.parent / out).iterdir()}
            for out in ("one", "two")
        )
        assert one == two

    def test_rules_may_be_several(self, bioconvert, checkpoint, tmp_path):
        """Rule sets given one after the other are used together, the first one first."""
        (tmp_path / "keep.yaml").write_text(
            "version: 1\nname: keep\nrules:\n  - match: {path: block1.**}\n    keep: true\n"
        )
        words = ["--arch", ARCH, "--rules", "keep.yaml", "--rules", "yat", "--out", "out"]
        assert bioconvert("convert", checkpoint, *words).code == 0
        model = bc.load(tmp_path / "out")
        assert type(model.block1[0]).__name__ == "Conv2d"
        assert type(model.block2[0]).__name__ == "YatConv2d"

    def test_existing_folder_needs_overwrite(self, bioconvert, checkpoint, converted):
        """A folder with something in it is left alone, unless --overwrite says otherwise."""
        before = {path.name: path.read_bytes() for path in converted.iterdir()}
        words = ["convert", checkpoint, "--arch", ARCH, "--rules", "yat", "--out", converted]
        refused = bioconvert(*words)
        assert (refused.code, refused.out) == (2, "")
        assert "--overwrite" in refused.err
        assert {path.name: path.read_bytes() for path in converted.iterdir()} == before
        assert bioconvert(*words, "--overwrite").code == 0


class TestRefusal:
    @pytest.fixture
    def refused(self, bioconvert, tmp_path):
        """Run a conversion that must fail with a code and leave no folder behind."""

        def run(code, *words):
            ran = bioconvert("convert", *words)
            assert (ran.code, ran.out) == (code, ""), ran.err
            assert "Traceback" not in ran.err
            assert not (tmp_path / "out").exists()
            return ran.err

        return run

    def test_wrong_rules_come_first(self, refused, tmp_path):
        """Rules are checked before anything is read: 2, though the checkpoint is damaged too."""
        (tmp_path / "bad.pt").write_bytes(b"nonsense")
        (tmp_path / "mine.yaml").write_text("version: 1\nrulez: []\n")
        words = refused(2, "bad.pt", "--arch", "no:where", "--rules", "mine.yaml", "--out", "out")
        assert "mine.yaml:" in words
        assert words.splitlines()[-1].endswith("in 1 file.")

    def test_damaged_bytes_come_before_the_architecture(self, refused, tmp_path):
        """A damaged checkpoint is 3, though its architecture is unknown too."""
        (tmp_path / "bad.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      rest")
        words = refused(3, "bad.safetensors", "--arch", "no:where", "--rules", "yat", "--out", "out")
        assert "bad.safetensors" in words

    def test_code_in_a_pickle_is_not_run(self, refused, tmp_path):
        """A pickle that would run code is 3, and the code didn't run."""

        class Evil:
            def __reduce__(self):
                return (tmp_path / "canary").touch, ()

        torch.save({"weight": Evil()}, tmp_path / "evil.pt")
        words = refused(3, "evil.pt", "--arch", ARCH, "--rules", "yat", "--out", "out")
        assert "evil.pt" in words
        assert "weights_only" not in words
        assert not (tmp_path / "canary").exists()

    def test_unknown_architecture(self, refused, checkpoint):
        """An architecture that can't be found is 2."""
        words = refused(2, checkpoint, "--arch", "nowhere:Net", "--rules", "yat", "--out", "out")
        assert "nowhere" in words

    def test_no_architecture(self, refused, checkpoint):
        """A state dict says nothing of its architecture: 2, with what --arch takes."""
        assert "--arch" in refused(2, checkpoint, "--rules", "yat", "--out", "out")

    def test_architecture_that_does_not_fit(self, refused, tmp_path):
        """Tensors of another model are 2, with their names."""
        save_file({"other.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
        words = refused(2, "other.safetensors", "--arch", ARCH, "--rules", "yat", "--out", "out")
        assert "other.weight" in words

    def test_missing_parameters_must_be_allowed(self, bioconvert, refused, checkpoint, tmp_path):
        """A checkpoint that lacks parameters is 2, unless --allow-missing names them."""
        state = torch.load(checkpoint)
        del state["head.bias"]
        torch.save(state, checkpoint)
        words = [checkpoint, "--arch", ARCH, "--rules", "yat", "--out", "out"]
        assert "head.bias" in refused(2, *words)
        assert bioconvert("convert", *words, "--allow-missing", "head.*").code == 0

    @pytest.mark.parametrize(
        ("words", "text"),
        [
            pytest.param(["absent.pt", "--out", "out"], "absent.pt: No such file or directory", id="no file"),
            pytest.param(["digits.pt"], "--out DIR", id="no target"),
            pytest.param(["digits.pt", "--out", "digits.pt"], "is a file", id="a file as target"),
            pytest.param(["digits.pt", "--out", "digits.pt/out"], "digits.pt is a file", id="below a file"),
            pytest.param(["digits.pt", "--out", "out", "--arch-args", "{"], "JSON", id="no JSON"),
            pytest.param(["digits.pt", "--out", "out", "--arch-args", "[]"], "JSON object", id="no object"),
            pytest.param(["digits.pt", "--out", "out", "--input-shape", "1x3"], "1,3,224", id="a shape"),
            pytest.param(
                ["digits.pt", "--out", "out", "--arch", ARCH, "--input-shape", "1,3"], "fails on", id="inputs"
            ),
        ],
    )
    def test_usage(self, refused, checkpoint, words, text):
        """What can't be meant is 2, in one line."""
        said = refused(2, *words, "--rules", "yat")
        assert text in said.splitlines()[-1]
        assert said.splitlines()[-1].startswith("error: ")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that takes no folders")
def test_target_that_the_system_refuses(bioconvert, checkpoint):
    """What the system refuses while writing is 4, with its own words."""
    ran = bioconvert("convert", checkpoint, "--arch", ARCH, "-r", "yat", "-o", "/proc/bioconvert")
    assert (ran.code, ran.out) == (4, "")
    assert "/proc/bioconvert" in ran.err.splitlines()[-1]


def test_folder_that_may_not_be_written_to(bioconvert, checkpoint, monkeypatch):
    """A target where writing isn't allowed is 4 before anything is read."""
    monkeypatch.setattr("bioconvert.cli.target.os.access", lambda path, mode: mode != os.W_OK)
    ran = bioconvert("convert", checkpoint, "--arch", ARCH, "-r", "yat", "-o", "out")
    assert (ran.code, ran.err) == (4, f"error: {checkpoint.parent}: Permission denied\n")


class TestPlan:
    def test_plan_is_a_dry_run(self, bioconvert, checkpoint, tmp_path):
        """`plan` and `convert --dry-run` say the same, and write nothing."""
        words = [checkpoint, "--arch", ARCH, "--rules", "yat", "--input-shape", SHAPE]
        planned = bioconvert("plan", *words)
        before = sorted(tmp_path.iterdir())
        assert planned.code == 0
        assert bioconvert("convert", *words, "--dry-run").out == planned.out
        assert sorted(tmp_path.iterdir()) == before

    def test_architecture_alone_has_a_plan(self, bioconvert):
        """Without a checkpoint the architecture is planned on."""
        ran = bioconvert("plan", "--arch", ARCH, "--rules", "yat")
        assert ran.code == 0
        assert "block{1,2}.0" in ran.out
        assert max(map(len, ran.out.splitlines())) <= 80

    def test_all_shows_each_row(self, bioconvert):
        """With --all no path is folded."""
        ran = bioconvert("plan", "--arch", ARCH, "--rules", "yat", "--all")
        assert "block1.0" in ran.out
        assert "block2.0" in ran.out

    def test_plan_is_what_happens(self, bioconvert, checkpoint):
        """What the plan says is applied is what the conversion reports."""
        words = [checkpoint, "--arch", ARCH, "--rules", "yat", "--json"]
        plan = bioconvert("plan", *words).document["plan"]
        report = bioconvert("convert", *words, "--out", "out").document["report"]
        assert plan["applied"] == report["applied"]

    def test_neither_checkpoint_nor_architecture(self, bioconvert):
        """There must be something to plan on."""
        ran = bioconvert("plan", "--rules", "yat")
        assert (ran.code, ran.err) == (2, "error: give a checkpoint, or --arch for a model without one\n")

    def test_own_code_is_found_in_the_working_directory(self, process, tmp_path):
        """--arch finds a module beside the user, but not in place of an installed one."""
        (tmp_path / "mymodel.py").write_text(
            "from torch import nn\n"
            "print('importing')\n"
            "def make(width=4):\n"
            "    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2))\n"
        )
        ran = process("plan", "--arch", "mymodel:make", "--arch-args", '{"width": 8}', "-r", "yat", "--json")
        assert ran.code == 0, ran.err
        assert ran.document["plan"]["applied"][0]["path"] == "0"
        assert "importing" in ran.err


class TestAfterwards:
    def test_sound_folder_verifies(self, bioconvert, converted):
        """A folder as it was written is sound."""
        ran = bioconvert("verify", converted)
        assert ran.code == 0
        assert re.fullmatch(r"sound: \d+ tensors, [\d,]+ bytes\n", ran.out)
        assert bioconvert("verify", converted, "--json").document["findings"] == []

    def test_flipped_bit_is_found(self, bioconvert, converted):
        """One flipped bit is a finding, and the code is 1."""
        file = converted / "model.safetensors"
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
        ran = bioconvert("verify", converted)
        assert ran.code == 1
        assert len(ran.out.splitlines()) >= 1
        assert bioconvert("verify", converted, "--json").document["findings"]

    def test_drift_compares_with_the_original(self, bioconvert, converted):
        """Each converted layer has a row, and the model's output the last one."""
        ran = bioconvert("drift", converted, "--input-shape", SHAPE)
        assert ran.code == 0
        assert "block1.0" in ran.out
        assert "the model's output" in ran.out.splitlines()[-1]
        document = bioconvert("drift", converted, "--input-shape", SHAPE, "--json").document
        assert document["drift"]["output"]["relative"] > 0

    def test_drift_needs_inputs(self, bioconvert, converted):
        """Without inputs there is nothing to compare on."""
        ran = bioconvert("drift", converted)
        assert ran.code == 2
        assert "--inputs" in ran.err

    def test_revert_gives_the_tensors_back(self, bioconvert, converted, checkpoint):
        """The reverted folder holds the original's tensors and no others."""
        ran = bioconvert("revert", converted, "--out", "back")
        assert ran.code == 0
        back = load_file(checkpoint.parent / "back" / "model.safetensors")
        old = torch.load(checkpoint)
        assert back.keys() == old.keys()
        assert all(torch.equal(back[name], old[name]) for name in old)

    def test_converted_folder_converts_again_to_itself(self, bioconvert, converted):
        """The same rules on a converted folder change nothing more."""
        ran = bioconvert("convert", converted, "--rules", "yat", "--out", "again", "--json")
        assert ran.code == 0, ran.err
        one, two = (load_file(converted.parent / name / "model.safetensors") for name in ("out", "again"))
        assert one.keys() == two.keys()
        assert all(torch.equal(one[name], two[name]) for name in one)

    def test_inspect_says_what_was_converted(self, bioconvert, converted):
        """For a folder of ours, inspect shows source, model, rules and what became of what."""
        ran = bioconvert("inspect", converted)
        assert ran.code == 0
        assert re.search(r"\d +Conv2d +YatConv2d", ran.out)
        assert "digits.pt" in ran.out
        assert "DigitsCNN" in ran.out
        conversion = bioconvert("inspect", converted, "--json").document["conversion"]
        assert conversion["rules"] == ["yat"]

    def test_inspect_says_what_was_attached(self, bioconvert, tmp_path):
        """What was attached is named as in the plan, once."""
        bc.save(bc.convert(nn.Sequential(nn.Linear(8, 4)), "plastic"), tmp_path / "plastic")
        changes = bioconvert("inspect", "plastic", "--json").document["conversion"]["changes"]
        assert [line["becomes"] for line in changes] == [
            "attach fuzzy_lr",
            "attach crystallize",
            "attach rejuvenate",
        ]


def test_interrupted_conversion_leaves_no_folder(bioconvert, checkpoint, monkeypatch, tmp_path):
    """Ctrl-C is 130 and one word, and the target is as absent as before."""

    def interrupted(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(bioconvert_checkpoint, "save_model", interrupted)
    ran = bioconvert("convert", checkpoint, "--arch", ARCH, "--rules", "yat", "--out", "out")
    assert (ran.code, ran.out, ran.err.splitlines()[-1]) == (130, "", "interrupted")
    assert not (tmp_path / "out").exists()

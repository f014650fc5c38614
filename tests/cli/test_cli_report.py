"""One page about a conversion: from a folder, beside a conversion, from a plan; and what it refuses."""

import json
import re

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import bioconvert as bc
from bioconvert.cli.demo_model import DigitsCNN
from bioconvert.cli.inputs import samples

ARCH = "bioconvert.cli.demo_model:DigitsCNN"
SHAPE = "4,1,8,8"
NUMBERS = re.compile(r'<script type="application/json" id="numbers">(.*?)</script>', re.S)


def numbers(page):
    """Give the JSON in a page."""
    return json.loads(NUMBERS.search(page.read_text()).group(1))


@pytest.fixture
def checkpoint(tmp_path):
    """A state dict of the small network, in a file."""
    torch.manual_seed(0)
    path = tmp_path / "digits.pt"
    torch.save(DigitsCNN().state_dict(), path)
    return path


@pytest.fixture
def folder(tmp_path):
    """A converted folder."""
    torch.manual_seed(0)
    model = bc.convert(DigitsCNN(), "yat")
    return bc.save(model, tmp_path / "out", arch=ARCH)


class TestReport:
    def test_page_tells_what_was_converted(self, bioconvert, folder, tmp_path):
        """The page has the classes before and after, and the answer says where it is."""
        ran = bioconvert("report", folder)
        assert ran.code == 0, ran.err
        assert "written to report.html" in ran.out
        assert "Conv2d → <b>YatConv2d</b>" in (tmp_path / "report.html").read_text()

    def test_drift_is_that_of_bc_drift(self, bioconvert, folder, tmp_path):
        """Each number of the drift is the one that bc.drift gives for the same inputs."""
        bioconvert("report", folder, "--input-shape", SHAPE, "--out", "page.html")
        model = bc.load(folder)
        expected = bc.drift(model, samples(None, SHAPE, seed=0).arguments(model)).to_dict()
        found = numbers(tmp_path / "page.html")["drift"]
        assert list(found["layers"]) == expected["layers"]
        assert found["output"] == expected["output"]

    def test_histograms_are_those_of_the_weights(self, bioconvert, folder, tmp_path):
        """Mean and deviation are those of the tensors in the folder."""
        bioconvert("report", folder)
        state = bc.load(folder).state_dict()
        found = numbers(tmp_path / "report.html")["histograms"]
        assert {each["path"] for each in found} == {"block1.0.weight", "block2.0.weight"}
        for each in found:
            weight = state[each["path"]].double()
            assert each["moments"]["mean"] == pytest.approx(float(weight.mean()))
            assert each["moments"]["deviation"] == pytest.approx(float(weight.std(correction=0)))

    def test_overwritten_weights_have_two_histograms(self, bioconvert, tmp_path):
        """Where conversion drew weights anew, the original's are shown beside them."""
        rule = {"match": {"type": "Linear"}, "replace": {"with": "YatLinear", "init": "fresh"}}
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 8))
        before = float(model[0].weight.detach().double().mean())
        bc.save(bc.convert(model, {"version": 1, "rules": [rule]}), tmp_path / "out")
        assert bioconvert("report", "out").code == 0
        (found,) = numbers(tmp_path / "report.html")["histograms"]
        assert found["original_moments"]["mean"] == pytest.approx(before)
        assert found["moments"]["mean"] != found["original_moments"]["mean"]

    def test_sizes_and_operations_are_those_of_the_models(self, bioconvert, folder, tmp_path):
        """Parameters are counted on both models, operations on the inputs given."""
        bioconvert("report", folder, "--input-shape", SHAPE)
        sizes = numbers(tmp_path / "report.html")["sizes"]
        parameters = [sum(p.numel() for p in m.parameters()) for m in (DigitsCNN(), bc.load(folder))]
        assert sizes["parameters"] == parameters
        assert sizes["flops"][0] > 0

    def test_what_was_left_alone_has_its_reason(self, bioconvert, folder, tmp_path):
        """The rules in the folder say of each module what became of it, as the plan does."""
        bioconvert("report", folder)
        coverage = numbers(tmp_path / "report.html")["coverage"]
        plan = bc.plan(DigitsCNN(), "yat")
        assert sum(row["count"] for row in coverage["applied"]) == len(plan.applied)
        assert sum(row["count"] for row in coverage["skipped"]) == len(plan.skipped)

    def test_rates_of_plasticity_are_no_parameters(self, bioconvert, tmp_path):
        """Without the model's code, buffers that conversion added count as memory alone."""
        bc.save(bc.convert(nn.Sequential(nn.Linear(8, 4)), "plastic"), tmp_path / "out")
        ran = bioconvert("report", "out")
        assert "1 layer got fuzzy_lr" in ran.out
        assert "The number of its parameters stays the same, 36." in ran.out
        before, after = numbers(tmp_path / "report.html")["sizes"]["nbytes"]
        assert after > before

    def test_parameters_that_rules_name_were_not_left_alone(self, bioconvert, tmp_path):
        """Of a checkpoint without code, what a rule did to its tensors is told once."""
        save_file({"head.weight": torch.ones(3, 2), "head.bias": torch.ones(3)}, tmp_path / "net.safetensors")
        rule = "{match: {parameter: '**.weight'}, attach: [crystallize]}"
        (tmp_path / "rules.yaml").write_text(f"version: 1\nrules: [{rule}]\n")
        assert bioconvert("convert", "net.safetensors", "-r", "rules.yaml", "--out", "out").code == 0
        assert "1 parameter got crystallize" in bioconvert("report", "out").out
        coverage = numbers(tmp_path / "report.html")["coverage"]
        assert [row["paths"] for row in coverage["applied"]] == ["head.weight"]
        assert coverage["skipped"] == []
        assert coverage["strips"][0]["cells"] == "a"

    def test_a_missing_history_is_a_mistake_of_usage(self, bioconvert, folder):
        """That a file isn't there is said before anything is looked at."""
        ran = bioconvert("report", folder, "--history", "none.json")
        assert (ran.code, ran.err) == (2, "error: none.json: No such file or directory\n")

    def test_same_folder_same_bytes(self, bioconvert, process, folder, tmp_path):
        """The page is the same in another process with another seed of hashes."""
        words = ["report", folder, "--input-shape", SHAPE]
        assert bioconvert(*words, "--out", "one.html").code == 0
        assert process(*words, "--out", "two.html", env={"PYTHONHASHSEED": "7"}).code == 0
        assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()

    def test_document_has_the_same_numbers(self, bioconvert, folder, tmp_path):
        """With --json the answer holds what the page holds."""
        document = bioconvert("report", folder, "--json").document
        assert document["out"] == "report.html"
        assert document["report"] == numbers(tmp_path / "report.html")

    @pytest.mark.parametrize(("format", "start"), [("mermaid", "flowchart LR"), ("dot", "digraph model {")])
    def test_diagram_goes_to_stdout(self, bioconvert, folder, format, start):
        """Without --out a diagram is the result itself."""
        ran = bioconvert("report", folder, "--format", format)
        assert ran.out.startswith(start)
        assert "YatConv2d" in ran.out


class TestOtherModels:
    def test_saved_model_without_conversion(self, bioconvert, tmp_path):
        """A folder in which nothing was converted gets a page that says so, with its weights."""
        bc.save(nn.Sequential(nn.Linear(4, 3)), tmp_path / "plain")
        assert bioconvert("report", "plain").code == 0
        found = numbers(tmp_path / "report.html")
        assert (found["kind"], found["sizes"]["parameters"], len(found["histograms"])) == (
            "plain",
            [15, 15],
            1,
        )

    def test_plain_checkpoint(self, bioconvert, tmp_path):
        """A file of tensors alone, too, with names for modules and no classes."""
        save_file({"enc.weight": torch.ones(4, 4)}, tmp_path / "model.safetensors")
        assert bioconvert("report", "model.safetensors").code == 0
        found = numbers(tmp_path / "report.html")
        assert not found["structure"]["with_classes"]
        assert found["histograms"][0]["moments"]["mean"] == 1.0

    def test_folder_whose_code_is_not_known(self, bioconvert, tmp_path):
        """Without the model's code, the page is made from the manifest and the tensors alone."""

        class Local(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(4, 4)

            def forward(self, x):
                return self.layer(x)

        bc.save(bc.convert(Local(), "yat-all"), tmp_path / "out")
        assert bioconvert("report", "out").code == 0
        found = numbers(tmp_path / "report.html")
        assert found["sizes"]["parameters"][0] == 20
        (layer,) = found["structure"]["root"]["children"]
        assert (layer["was"], layer["now"], layer["change"]) == ("Linear", "YatLinear", "changed")
        assert "code isn't known" in found["coverage"]["note"]

    def test_living_model_with_a_history(self, bioconvert, tmp_path):
        """Growth comes from the folder, the numbers of plasticity from the file with its history."""
        rules = [
            {"match": {"path": "0"}, "wrap": {"tag": "general"}},
            {"match": {"type": "Linear"}, "attach": ["fuzzy_lr"]},
        ]
        torch.manual_seed(0)
        model = bc.convert(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), {"version": 1, "rules": rules})
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        plasticity = bc.Plasticity(model, history=1).bind(optimizer)
        organism = bc.Organism(model).bind(optimizer)
        for _ in range(3):
            model(torch.randn(2, 4)).sum().backward()
            optimizer.step()
        organism.grow("general", tag="expert")
        bc.save(model, tmp_path / "out")
        (tmp_path / "history.json").write_text(plasticity.history.to_json())
        ran = bioconvert("report", "out", "--history", "history.json")
        assert ran.code == 0, ran.err
        found = numbers(tmp_path / "report.html")
        assert (found["growth"]["births"], found["growth"]["step"], found["growth"]["nodes"]) == (1, 3, 2)
        assert [steps for each in found["plasticity"] for steps in each["steps"]][:3] == [1, 2, 3]
        assert "How the model grew" in (tmp_path / "report.html").read_text()

    def test_dynamic_layers_count_as_open(self, bioconvert, tmp_path):
        """Operations of making weights are counted, though the gate behind which they lie is zero."""
        bc.save(bc.convert(DigitsCNN(), "dynamic"), tmp_path / "out", arch=ARCH)
        assert bioconvert("report", "out", "--input-shape", SHAPE).code == 0
        found = numbers(tmp_path / "report.html")
        assert found["drift"]["output"]["relative"] == 0.0
        before, after = found["sizes"]["flops"]
        assert after > before


class TestBesideOtherCommands:
    def test_conversion_writes_a_page_too(self, bioconvert, checkpoint, tmp_path):
        """--report of convert has the outcomes and the drift of this very conversion."""
        words = ["convert", checkpoint, "--arch", ARCH, "-r", "yat", "-o", "out", "--input-shape", SHAPE]
        ran = bioconvert(*words, "--report", "page.html", "--json")
        assert ran.code == 0, ran.err
        found = numbers(tmp_path / "page.html")
        assert found["drift"]["output"] == ran.document["drift"]["output"]
        assert sum(r["count"] for r in found["coverage"]["applied"]) == len(ran.document["report"]["applied"])
        assert ran.document["parameters"]["after"] == found["sizes"]["parameters"][1]

    def test_conversion_says_what_it_costs(self, bioconvert, checkpoint):
        """Parameters, bytes and operations, before and after, are in the answer."""
        words = ["convert", checkpoint, "--arch", ARCH, "-r", "yat", "-o", "out", "--input-shape", SHAPE]
        ran = bioconvert(*words)
        assert re.search(r"parameters +25,866 +2\d,\d{3}", ran.out)
        assert re.search(r"FLOPs of a call +\S+ M", ran.out)

    def test_plan_writes_a_page_and_nothing_else(self, bioconvert, checkpoint, tmp_path):
        """--report of plan shows what would be, with the weights as they are now."""
        ran = bioconvert("plan", checkpoint, "--arch", ARCH, "-r", "yat", "--report", "page.html")
        assert ran.code == 0, ran.err
        found = numbers(tmp_path / "page.html")
        assert (found["kind"], found["drift"]) == ("planned", None)
        assert len(found["histograms"]) == 2
        assert sorted(path.name for path in tmp_path.iterdir()) == ["digits.pt", "page.html"]

    def test_plan_has_costs_in_its_document(self, bioconvert):
        """Parameters, buffers, bytes and operations are pairs; unknown operations have a reason."""
        document = bioconvert("plan", "--arch", ARCH, "-r", "yat", "--json").document
        assert document["parameters"]["after"] > document["parameters"]["before"] == 25_866
        assert document["bytes"]["before"] == 4 * 25_866
        assert document["flops"]["before"] is None
        assert "--input-shape" in document["flops"]["unknown"]

    def test_plan_fits_80_columns(self, bioconvert):
        """With the column of parameters and the totals, no line is longer than a terminal."""
        ran = bioconvert("plan", "--arch", ARCH, "-r", "dynamic", "--input-shape", SHAPE)
        assert "parameters" in ran.out
        assert max(map(len, ran.out.splitlines())) <= 80


def _nothing(tmp_path):
    pass


def _other_file(tmp_path):
    (tmp_path / "notes.html").write_text("<html>mine</html>")


REFUSED = [
    pytest.param(["report", "nowhere"], 2, "No such file", _nothing, id="no folder"),
    pytest.param(["report", "out", "--out", "out/r.html"], 2, "must lie outside of", _nothing, id="inside"),
    pytest.param(["report", "out", "--out", "notes.html"], 2, "is no report", _other_file, id="another file"),
    pytest.param(
        ["report", "out", "--out", "no/r.html"], 2, "the folder for it must exist", _nothing, id="where"
    ),
    pytest.param(["report", "out", "--format", "pdf"], 2, "pdf", _nothing, id="format"),
    pytest.param(
        ["report", "out", "--history", "out/bioconvert.json"], 3, "to_json()", _nothing, id="history"
    ),
]


@pytest.mark.parametrize(("words", "code", "text", "before"), REFUSED)
def test_refusal(bioconvert, folder, tmp_path, words, code, text, before):
    """What can't be done ends with the reason, and no file is touched."""
    before(tmp_path)
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    ran = bioconvert(*words)
    assert (ran.code, ran.out) == (code, "")
    assert text in ran.err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == kept


def test_own_page_is_replaced(bioconvert, folder, tmp_path):
    """A page that is there already gives way to the new one."""
    assert bioconvert("report", folder).code == 0
    before = (tmp_path / "report.html").stat().st_ino
    assert bioconvert("report", folder).code == 0
    assert (tmp_path / "report.html").stat().st_ino != before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "report.html"]

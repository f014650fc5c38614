"""The experiments that the mechanisms must stand up to, and the command that runs them."""

import importlib
import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("sklearn")
sys.path.append(str(Path(__file__).parents[2] / "examples"))

main = importlib.import_module("evidence.__main__").main
catalogue = importlib.import_module("evidence.harness.catalogue")
findings = importlib.import_module("evidence.harness.findings")
output = importlib.import_module("evidence.harness.output")
Bar, Finding, Settings = findings.Bar, findings.Finding, findings.Settings

RUNS = {
    "cancellation": ["--seeds", "1"],
    "exactness": [],
    "xor": [],
    "spectral-multiplier": ["--seeds", "1"],
    "context-kernels": ["--seeds", "1"],
    "fidelity": ["--quick"],
    "yat-from-scratch": ["--seeds", "1"],
    "deep-fidelity": [],
    "language-model": [],
    "consolidation": [],
    "dale-split": ["--quick"],
    "dale-from-scratch": ["--quick"],
    "synaptic-scaling": ["--seeds", "1"],
    "update-rates": ["--quick"],
    "fuzzy-rates": [],
    "permuted-digits": ["--seeds", "1"],
    "bit-flipping": [],
    "pruned-units": ["--quick"],
    "width-growth": ["--seeds", "1"],
    "optimizer-surgery": ["--seeds", "2"],
}
SLOW = {
    "optimizer-surgery",
    "context-kernels",
    "consolidation",
    "yat-from-scratch",
    "deep-fidelity",
    "language-model",
    "dale-from-scratch",
    "fuzzy-rates",
    "permuted-digits",
    "bit-flipping",
    "width-growth",
}


def marked(name):
    return pytest.param(name, marks=[pytest.mark.slow, pytest.mark.timeout(900)] if name in SLOW else [])


class TestExperiments:
    @pytest.mark.parametrize("name", [marked(name) for name in RUNS])
    def test_meets_its_bars(self, name, tmp_path, capsys):
        """An experiment meets every bar, prints its table and writes the same as JSON."""
        path = tmp_path / "result.json"
        assert main([name, *RUNS[name], "--json", str(path)]) == 0, capsys.readouterr().out
        printed, written = capsys.readouterr().out, json.loads(path.read_text(encoding="utf-8"))
        assert all(len(line) <= 80 for line in printed.splitlines()[:-2] if name not in line)
        assert written["experiment"] == name
        assert written["passed"]
        assert any(finding["bar"] for finding in written["findings"])
        assert "all bars met" in printed

    def test_every_experiment_says_what_it_asks(self):
        """Each has a question, a set-up, a bar and a number of seeds; each is run here."""
        for name in catalogue.names():
            module = catalogue.experiment(name)
            assert catalogue.question(module).endswith("?"), name
            assert "\nSet-up: " in module.__doc__, name
            assert "\nBar" in module.__doc__, name
            assert module.SEEDS >= 1, name

    def test_the_experiments_of_the_yat_family_are_known(self):
        """No row of the table here is without its experiment."""
        assert RUNS.keys() <= set(catalogue.names())


class TestCommand:
    def test_lists(self, capsys):
        """--list names each experiment and its question."""
        assert main(["--list"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in lines] == catalogue.names()
        assert "Does a single Yat neuron solve XOR?" in "\n".join(lines)

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            (["xxor"], "no experiment is named xxor. Known: "),
            ([], "name an experiment"),
            (["xor", "exactness", "--json", "x.json"], "--json takes the results of one experiment"),
            (["xor", "--seeds", "0"], "--seeds must be at least 1"),
        ],
    )
    def test_wrong_usage(self, given, said, capsys):
        """Wrong arguments stop with status 2 and say what is wrong."""
        with pytest.raises(SystemExit, match="2"):
            main(given)
        assert said in capsys.readouterr().err

    def test_a_missed_bar_is_status_1(self, tmp_path, monkeypatch, capsys):
        """A bar that isn't met ends with status 1, in the table and in the JSON, at the default place too."""
        module = catalogue.experiment("cancellation")
        monkeypatch.setattr(module, "BAR", 0)
        monkeypatch.chdir(tmp_path)
        assert main(["cancellation", "--quick"]) == 1
        path = tmp_path / "evidence-results" / "cancellation.json"
        written = json.loads(path.read_text(encoding="utf-8"))
        assert not written["passed"]
        assert written["findings"][0]["verdict"] == "missed"
        assert "3 bars missed" in capsys.readouterr().out


class TestFindings:
    @pytest.mark.parametrize(
        ("relation", "limit", "met", "missed"),
        [
            ("≥", 2, 2, 1.9),
            ("≤", 2, 2, 2.1),
            ("<", 2, 1.9, 2),
            (">", 2, 2.1, 2),
            ("=", 2, 2, 2.1),
            ("±", 2, -2, -2.1),
        ],
    )
    def test_bars(self, relation, limit, met, missed):
        """A bar is met by the mean of the values; what isn't a number meets none."""
        bar = Bar(relation, limit)
        assert Finding("x", [met], bar).verdict == "met"
        assert Finding("x", [missed], bar).verdict == "missed"
        assert not bar.met_by(float("nan"))

    def test_unknown_relation(self):
        """A relation that isn't known is an error."""
        with pytest.raises(ValueError, match="relation must be one of"):
            Bar("~", 1)

    def test_null_results_are_called_so(self):
        """Where nothing was to be found and nothing was, the verdict says so."""
        assert Finding("x", [0.1], Bar("±", 0.5), null=True).verdict == "null result"
        assert Finding("x", [0.7], Bar("±", 0.5), null=True).verdict == "missed"

    def test_values_without_a_bar(self):
        """A value for comparison has no verdict and misses nothing."""
        finding = Finding("x", [1, 2])
        assert finding.met
        assert finding.verdict == ""

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ([97.25], "97.2"),
            ([1, 3], "2 ± 1.41"),
            ([3e-4], "3.0e-04"),
            ([1e-15], "0"),
            ([123456.0], "1.2e+05"),
            ([float("nan")], "nan"),
        ],
    )
    def test_numbers_as_they_are_shown(self, values, expected):
        """Numbers take three places, and a deviation where there are several seeds."""
        assert output.shown(values) == expected

    def test_long_rows_are_wrapped(self):
        """No line of the table is longer than 80 columns."""
        text = output.table([Finding("many words " * 9, [1e-7, 1e7], Bar("≤", 1e-10))])
        assert max(map(len, text.splitlines())) <= 80
        assert "missed" in text

    def test_json_has_no_nan(self):
        """What isn't finite is null in the JSON."""
        document = output.document("x", "?", Settings(1), 0.1, [Finding("x", [float("nan")], Bar("≤", 1))])
        assert document["findings"][0]["mean"] is None
        assert not document["passed"]

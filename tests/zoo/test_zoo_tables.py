"""The zoo is complete, and tells what it found."""

import json

import pytest

from .entry import SOURCES, Entry, entries, left_out
from .result import Result, Step
from .runner import check_apart
from .table import Summary, markdown, row

WELL = Result(
    "timm/one",
    (Step("identity equal", "ok"), Step("morph equal", "unavailable", "not there")),
    selected=3,
    applied=2,
    ran=2,
    trained=2,
    refused={"it reads its weight: so there": 1},
)
BROKEN = Result("timm/two", (Step("reverted", "failed", "bits differ"),), selected=1, applied=1)


class TestLists:
    def test_hold_every_model_of_torchvision(self, torchvision):
        """Every classification, segmentation and video model is in the table, or left out by name."""
        models = torchvision.models
        listed = {
            name
            for module in (models, models.segmentation, models.video)
            for name in models.list_models(module=module)
        }
        assert listed <= {entry.name for entry in entries("torchvision")} | set(left_out("torchvision"))

    def test_hold_every_family_of_timm(self, timm):
        """Every module of timm that defines models has one in the table, or is left out by name."""
        families = {entry.options["family"] for entry in entries("timm")}
        assert set(timm.list_modules()) <= families | set(left_out("timm"))

    @pytest.mark.parametrize("source", SOURCES)
    def test_name_each_model_once(self, source):
        """No model is listed twice, nor both listed and left out."""
        names = [entry.name for entry in entries(source)] + list(left_out(source))
        assert len(names) == len(set(names))


class TestResults:
    def test_survive_json(self):
        """A result is the same after being written and read."""
        assert Result.from_dict(json.loads(json.dumps(WELL.to_dict()))) == WELL

    def test_are_one_row_each(self):
        """A row holds the counts, a mark for each promise, and the reasons, folded."""
        assert row(WELL) == ("one", "3", "2", "2", "2", "yes", "n/a", "-", "-", "1 × it reads its weight")

    def test_are_counted(self):
        """The summary counts models and layers and names the findings."""
        summary = Summary.of([WELL, BROKEN])
        assert (summary.models, summary.well, summary.selected, summary.applied) == (2, 1, 4, 3)
        assert summary.failures == {"timm/two": ["reverted: bits differ"]}

    def test_are_written_with_date_and_versions(self):
        """The page says when and with what the results were obtained, and every finding."""
        page = markdown([WELL, BROKEN], date="2026-01-02", versions={"torch": "2.13"})
        assert "2026-01-02; torch 2.13" in page
        assert "- timm/two: reverted: bits differ" in page


def test_a_process_that_fails_is_a_result():
    """A check that doesn't come to its end is a finding that says why, not an error of the run."""
    result = check_apart(Entry("timm", "no_such_model", {}), timeout=60, memory=4)
    assert result.verdict == "failed: process"
    assert "StopIteration" in result.failures[0]

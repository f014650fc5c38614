"""What the example of a growing model promises: it grows by itself, and keeps what it knew."""

import runpy
import tempfile
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "growing_organism.py"


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Run it once, with a folder of its own."""
    before, tempfile.tempdir = tempfile.tempdir, str(tmp_path_factory.mktemp("drawn"))
    try:
        return runpy.run_path(str(EXAMPLE), run_name="__main__")
    finally:
        tempfile.tempdir = before


def test_it_grows_within_steps_of_each_change(ran):
    """The trigger alone lets one branch grow at each change of the data, within ten steps."""
    births = [event for event in ran["organism"].history if event["event"] == "birth"]
    changes = [ran["STEPS"] * number for number in range(1, len(ran["LOOKS"]))]
    grown = [event["step"] for event in births if event["tag"] != "spare"]
    assert len(grown) == len(changes)
    assert all(change < step <= change + 10 for step, change in zip(grown, changes, strict=True))


def test_every_look_is_learned_and_kept(ran):
    """Each look is learned to more than 90 percent, of which 95 percent are left at the end."""
    for look, (tag, then) in ran["learned"].items():
        assert then > 0.9
        assert ran["accuracy"](look, tag) >= 0.95 * then


def test_dead_branches_are_gone_and_the_cap_holds(ran):
    """The branch that never learned is pruned, and parameters end below the cap."""
    assert [node.tag for node in ran["organism"].nodes()] == ["general", "expert_1", "expert_2", "general"]
    assert sum(p.numel() for p in ran["model"].parameters()) < ran["CAP"]


def test_the_timeline_is_drawn(ran):
    """A picture tells the story."""
    text = ran["path"].read_text(encoding="utf-8")
    assert "3 branches born, 1 pruned" in text
    assert "└ features+3 (spare)" in text

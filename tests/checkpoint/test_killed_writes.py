"""Processes that are killed while they write, or write at the same time, leave one that is old or new."""

import random
import time

import fault_table
import folder_writer
import pytest
from fault_runs import Runs, Writer, contents

SIZES = [9_000_000, 5_000_000, 700, 8_000_000]
"""Of the tensors: some need the threads of a large file, and all the files take some tenths of a second."""
WAYS = [
    pytest.param({"before": True, "journal": True}, id="old folder, journal"),
    pytest.param({"before": False, "journal": True}, id="nothing before, journal"),
    pytest.param({"before": True, "journal": False}, id="old folder, no journal"),
    pytest.param({"before": True, "journal": True, "swap": False}, id="old folder, no exchange"),
]
KILLS = 50
"""For each way; 200 in all."""


def usual_time(runs):
    """Give the seconds that a run takes, of which many are killed in the middle."""
    began = time.monotonic()
    runs.reset()
    assert runs.run() == 0
    return time.monotonic() - began


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("way", WAYS)
def test_a_kill_at_any_moment_loses_nothing(tmp_path, way):
    """After SIGKILL at random moments the target is complete or as before, and can be finished."""
    moments = random.Random(5)
    with Runs(tmp_path, SIZES, shard_size=10_000_000, **way) as runs:
        for moment in (moments.uniform(0, usual_time(runs)) for _ in range(KILLS)):
            runs.reset()
            runs.start()
            runs.go(kill_after=moment)
            assert runs.end() in (0, -9)
            runs.check("SIGKILL at a random moment", f"killed after {moment:.3f} s")


@pytest.mark.slow
def test_two_processes_write_to_one_target(tmp_path):
    """Of two at once one is refused, or waits its turn by chance; the target is that of one of them."""
    with Runs(tmp_path, SIZES, shard_size=10_000_000, before=False) as runs, Writer() as other:
        for _ in range(20):
            runs.reset()
            runs.start()
            other.make(runs.arguments())
            runs.go()
            other.go()
            codes = sorted([runs.end(), other.end()])
            assert codes == [0, folder_writer.REFUSED]
            assert contents(runs.target) == runs.states["new"]
            fault_table.record("two conversions to one target", "one refused")

"""A process that writes a folder is killed, or refused by the system, at every system call that it makes."""

import shutil

import folder_writer
import pytest
from fault_runs import Runs, calls_in

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
]

SIZES = [3000, 3000, 1000]
WAYS = [
    pytest.param({"before": True, "journal": True}, id="old folder, journal"),
    pytest.param({"before": False, "journal": True}, id="nothing before, journal"),
    pytest.param({"before": True, "journal": False}, id="old folder, no journal"),
    pytest.param({"before": True, "journal": True, "swap": False}, id="old folder, no exchange"),
]
REFUSABLE = (
    "openat", "write", "fsync", "mkdir", "rename", "renameat2", "ftruncate", "chmod", "unlink", "unlinkat",
    "rmdir", "flock", "statfs", "getdents64", "read", "lseek",
)  # fmt: skip


@pytest.fixture(params=WAYS)
def runs(request, tmp_path):
    """Give what writes one folder again and again."""
    with Runs(tmp_path, SIZES, **request.param) as found:
        yield found


def every_call(runs, names=None):
    """Give each system call of a run as its name and its number among those of that name."""
    code, lines = runs.traced("-e", "trace=all")
    assert code == 0
    counts = calls_in(lines)
    counts.pop("exit_group")
    return [
        (name, n) for name in counts if names is None or name in names for n in range(1, counts[name] + 1)
    ]


def test_a_kill_at_any_call_loses_nothing(runs):
    """The target is as before or complete, its hashes agree, and the work is finished to the same bytes."""
    for name, number in every_call(runs):
        runs.reset()
        code, _ = runs.traced("-e", f"inject={name}:signal=KILL:when={number}")
        assert code in (-9, 0), f"{name} {number}"  # 0: this time there was a call less
        runs.check("SIGKILL at a system call", f"killed at {name} {number}")


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
def test_an_error_of_any_call_loses_nothing(runs, error):
    """Whatever the system refuses is an error of the target, which stays as it was, or no harm at all."""
    for name, number in every_call(runs, REFUSABLE):
        runs.reset()
        code, _ = runs.traced("-e", f"inject={name}:error={error}:when={number}")
        what = f"{error} of {name} {number}"
        assert code != folder_writer.BUG, what
        assert code >= 0, what
        ended = runs.check(f"{error} of a system call", what)
        assert code != 0 or ended == "complete", f"{what}: not complete, but not said"

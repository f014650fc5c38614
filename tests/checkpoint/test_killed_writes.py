"""A process that is killed while it writes leaves the old folder or the new one."""

import random
import subprocess
import sys
import time

import pytest
from checkpoint_samples import Biased, files_in

from bioconvert.checkpoint import save_model, verify_folder

FOREVER = """
import sys
from pathlib import Path
from bioconvert.checkpoint import revert_folder
one, two, target = map(Path, sys.argv[1:])
print("ready", flush=True)
while True:
    for source in (one, two):
        revert_folder(source, target, overwrite=True, shard_size=4000)
"""


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_a_complete_folder(tmp_path):
    """After SIGKILL at 25 random moments, the target is one of the two complete folders, bit for bit."""
    for value in (1.0, 2.0):
        save_model(Biased(value), tmp_path / f"model{value}", shard_size=4000)
    sources = [tmp_path / "model1.0", tmp_path / "model2.0"]
    moments = random.Random(5)
    seen = set()
    for _ in range(25):
        target = tmp_path / "out"
        writer = subprocess.Popen(
            [sys.executable, "-c", FOREVER, *map(str, sources), str(target)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout.readline() == "ready\n"
        time.sleep(moments.uniform(0, 0.1))
        writer.kill()
        writer.wait()
        writer.stdout.close()
        if target.exists():
            assert verify_folder(target) == []
            found = {name: data for name, data in files_in(target).items() if name.endswith("safetensors")}
            wanted = [files_in(source) for source in sources]
            index = next(
                i for i, files in enumerate(wanted) if all(files[name] == found[name] for name in found)
            )
            seen.add(index)
    assert seen == {0, 1}

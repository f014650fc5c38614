"""Headers, manifests, verification and reverting need no torch."""

import subprocess
import sys

import pytest
from checkpoint_samples import Plain

from bioconvert.checkpoint import save_model

STEPS = [
    pytest.param("read_header(folder / 'model.safetensors').tensors", id="header"),
    pytest.param("locate(folder / 'model.safetensors').files", id="files"),
    pytest.param("read_manifest(folder / 'bioconvert.json').tensors", id="manifest"),
    pytest.param("[verify_folder(folder)] == [[]]", id="verify"),
    pytest.param("revert_folder(folder, folder.with_name('back'))", id="revert"),
]


@pytest.mark.parametrize("step", STEPS)
def test_torch_is_not_imported(tmp_path, step):
    """The step works, and torch isn't loaded by it."""
    save_model(Plain(), tmp_path / "out")
    code = f"""
import sys
from pathlib import Path
from bioconvert.checkpoint import locate, read_header, read_manifest, revert_folder, verify_folder
folder = Path(sys.argv[1])
assert {step}
assert "torch" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr

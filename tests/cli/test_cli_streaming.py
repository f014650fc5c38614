"""Converting a checkpoint that doesn't fit into memory, from the command line."""

import pytest
from safetensors.torch import save_file
from streamed_models import Blocks

from bioconvert.checkpoint import preflight, verify_folder

ARCH = ("--arch", "streamed_models:Blocks")


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint of some hundred KiB."""
    path = tmp_path / "model.safetensors"
    save_file({name: tensor.clone() for name, tensor in Blocks().state_dict().items()}, path)
    return path


@pytest.fixture
def little_memory(monkeypatch):
    """A machine with 100 KiB of free memory."""
    monkeypatch.setattr(preflight, "memory_limit", lambda: preflight.Limit(100 << 10, "of the machine"))


class TestOption:
    """``--stream`` reads one tensor at a time."""

    def test_the_files_are_the_same(self, bioconvert, checkpoint, tmp_path):
        """Whether values are streamed or not, the folder is the same."""
        for option in ("--stream", "--no-stream"):
            done = bioconvert(
                "convert", checkpoint, *ARCH, "--rules", "plastic", "--out", tmp_path / option, option
            )
            assert done.code == 0
        one, other = (
            {file.name: file.read_bytes() for file in (tmp_path / option).iterdir()}
            for option in ("--stream", "--no-stream")
        )
        assert one == other
        assert verify_folder(tmp_path / "--stream") == []

    def test_plans_are_the_same(self, bioconvert, checkpoint):
        """``plan`` takes it, too."""
        plans = [
            bioconvert("plan", checkpoint, *ARCH, "--rules", "yat", option, "--json").out
            for option in ("--stream", "--no-stream")
        ]
        assert plans[0] == plans[1]

    @pytest.mark.parametrize(
        ("given", "reason"),
        [
            (("--input-shape", "1,3"), "the model is to be run on samples"),
            (("--allow-missing", "*"), "parameters that the checkpoint lacks (--allow-missing) are made"),
        ],
    )
    def test_what_needs_all_values_is_refused(self, bioconvert, checkpoint, tmp_path, given, reason):
        """What can't be done tensor by tensor is a usage error with its reason."""
        done = bioconvert(
            "convert", checkpoint, *ARCH, "--rules", "yat", "--out", tmp_path / "out", "--stream", *given
        )
        assert done.code == 2
        assert reason in done.err
        assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("little_memory")
class TestLittleMemory:
    """Without the option the free memory decides."""

    def test_it_streams_by_itself(self, bioconvert, checkpoint, tmp_path):
        """A checkpoint that doesn't fit is streamed, and that is said."""
        done = bioconvert("convert", checkpoint, *ARCH, "--rules", "yat", "--out", tmp_path / "out")
        assert done.code == 0
        assert "of memory, and 100.0 KiB are free: its tensors are read one by one" in done.err

    def test_what_cannot_be_streamed_is_refused_before_it_is_read(self, bioconvert, checkpoint, tmp_path):
        """A conversion that needs more memory than there is ends with exit code 4 and the numbers."""
        done = bioconvert(
            "convert", checkpoint, *ARCH, "--rules", "yat", "--out", tmp_path / "out", "--input-shape", "1,3"
        )
        assert done.code == 4
        assert "of memory are needed, but only 100.0 KiB are free (of the machine)" in done.err
        assert "the model is to be run on samples" in done.err
        assert not (tmp_path / "out").exists()

    def test_the_user_may_insist(self, bioconvert, checkpoint, tmp_path):
        """``--no-stream`` reads everything all the same."""
        done = bioconvert(
            "convert", checkpoint, *ARCH, "--rules", "yat", "--out", tmp_path / "out", "--no-stream"
        )
        assert done.code == 0
        assert "one by one" not in done.err

"""Converting a checkpoint that doesn't fit into memory, from the command line."""

from pathlib import Path

import pytest
from safetensors.torch import save_file
from streamed_models import Blocks

from bioconvert.checkpoint import save_model, verify_folder
from bioconvert.checkpoint.models import paging
from bioconvert.checkpoint.models.paging import Pager
from bioconvert.checkpoint.output import preflight

ARCH = ("--arch", "streamed_models:Blocks")
SHARDS = ("--shard-size", "60KB")


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

    def test_an_index_stands_for_its_shards(self, bioconvert, tmp_path):
        """It is the size of the tensors that counts, not that of the file that is named."""
        save_model(Blocks(), tmp_path / "model", shard_size=50_000)
        (tmp_path / "model" / "bioconvert.json").unlink()
        index = tmp_path / "model" / "model.safetensors.index.json"
        done = bioconvert("convert", index, *ARCH, "--rules", "yat", "--out", tmp_path / "out")
        assert done.code == 0
        assert "its tensors are read one by one" in done.err

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


class TestInterruptions:
    """A streamed conversion is stopped, continued and put in place like any other."""

    @pytest.fixture(autouse=True)
    def _nothing_in_memory(self, monkeypatch):
        monkeypatch.setattr(Pager.__init__, "__defaults__", (0,))

    @pytest.fixture
    def folder(self, checkpoint, tmp_path):
        """The checkpoint as the only file of a folder."""
        (tmp_path / "model").mkdir()
        checkpoint.rename(tmp_path / "model" / "model.safetensors")
        return tmp_path / "model"

    @pytest.fixture
    def whole(self, bioconvert, folder, tmp_path):
        """The files of a conversion in memory that nothing interrupted."""
        done = bioconvert(
            "convert",
            folder,
            *ARCH,
            "--rules",
            "plastic",
            "--out",
            tmp_path / "whole",
            *SHARDS,
            "--no-stream",
        )
        assert done.code == 0
        return files_in(tmp_path / "whole")

    @pytest.mark.parametrize("place", ["beside", "in place"])
    @pytest.mark.parametrize("go_on", [("resume",), ("convert", "--resume", "--no-stream")])
    def test_interrupted_and_resumed(self, bioconvert, folder, whole, tmp_path, monkeypatch, place, go_on):
        """What an interrupt in the midst of reading leaves is continued to the same bytes."""
        before = files_in(folder)
        target = folder if place == "in place" else tmp_path / "out"
        where = ("--in-place",) if place == "in place" else ("--out", target)
        words = (folder, *ARCH, "--rules", "plastic", *where, *SHARDS)
        with monkeypatch.context() as patch:
            patch.setattr(Pager, "blocks", interrupting(Pager.blocks, calls=12))
            assert bioconvert("convert", *words, "--stream").code == 130
        assert files_in(folder) == before
        command, *options = go_on
        arguments = (target,) if command == "resume" else (*words, *options)
        done = bioconvert(command, *arguments)
        assert done.code == 0, done.err
        assert files_in(target) == whole
        assert verify_folder(target) == []

    @pytest.mark.parametrize("moment", [1, 3, 5])
    def test_interrupted_while_values_are_read(self, bioconvert, folder, tmp_path, monkeypatch, moment):
        """Nothing is left of an interrupt before the first file is finished."""
        monkeypatch.setattr(Pager, "_read", interrupting(Pager._read, calls=moment))
        done = bioconvert(
            "convert", folder, *ARCH, "--rules", "plastic", "--out", tmp_path / "out", "--stream"
        )
        assert done.code == 130
        assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]

    def test_a_full_disk(self, bioconvert, folder, tmp_path, monkeypatch):
        """Changed values that find no room end in exit code 4."""
        with Path("/dev/full").open("r+b", buffering=0) as full:
            monkeypatch.setattr(paging.tempfile, "TemporaryFile", lambda **_: full)
            done = bioconvert(
                "convert", folder, *ARCH, "--rules", "plastic", "--out", tmp_path / "out", "--stream"
            )
        assert done.code == 4
        assert "changed values can't be put into a temporary file there (No space left on device)" in done.err
        assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def interrupting(method, *, calls):
    """Give a method that the user interrupts at a call."""
    done = []

    def interrupted(*arguments):
        done.append(arguments)
        if len(done) == calls:
            raise KeyboardInterrupt
        return method(*arguments)

    return interrupted


def files_in(folder):
    """Give the bytes of every file in a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}

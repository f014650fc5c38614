"""Folders on file systems that are full, read-only, elsewhere, or mounted on the target itself."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import fault_table
import folder_writer
import pytest
from fault_runs import contents, make_source

from bioconvert.checkpoint.folders.verifying import verify_folder
from bioconvert.checkpoint.output.staging import Staging, staged_folder
from bioconvert.core.errors import TargetError

MEMORY = Path("/dev/shm")
"""A file system that is another than that of the tests, on Linux."""
SIZES = [300_000, 300_000, 300_000]


@pytest.fixture
def source(tmp_path):
    """Give a safetensors file of somewhat less than one MiB."""
    return make_source(tmp_path / "source", SIZES, 0)


def in_small_file_system(tmp_path, options, *steps):
    """Run steps of Python in a namespace of its own, with a file system in memory mounted on ``small``."""
    small = tmp_path / "small"
    small.mkdir()
    script = tmp_path / "steps.py"
    script.write_text("\n".join(("import sys, folder_writer", "from pathlib import Path", *steps)))
    paths = os.pathsep.join([str(Path(folder_writer.__file__).parent), os.environ.get("PYTHONPATH", "")])
    mount = f"mount -t tmpfs -o {options} none {small} && exec {sys.executable} {script} {tmp_path} {small}"
    ran = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    if "unshare:" in ran.stderr or "mount:" in ran.stderr:
        pytest.skip(f"no file system can be mounted here: {ran.stderr.strip()}")
    return ran


needs_namespaces = pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not installed")


@needs_namespaces
class TestSmallFileSystems:
    def test_too_little_space_is_found_before_writing(self, tmp_path, source):
        """A file system smaller than the tensors is refused with numbers, and stays empty."""
        ran = in_small_file_system(
            tmp_path,
            "size=1m",
            "from bioconvert.core.errors import ResourceError",
            "try: folder_writer.write(sys.argv[1] + '/source/model.safetensors', sys.argv[2] + '/out')",
            "except ResourceError as error: print(error, list(Path(sys.argv[2]).iterdir()))",
        )
        assert "are to be written, but only 1020.0 KiB of disk space are free" in ran.stdout, ran.stderr
        assert ran.stdout.endswith("[]\n")

    @pytest.mark.parametrize("blocks", [4, 80, 160, 240, 298])
    def test_a_disk_that_fills_up_meanwhile(self, tmp_path, source, blocks):
        """What doesn't fit is an error; the old folder stays, and with more space the work is finished."""
        ran = in_small_file_system(
            tmp_path,
            "size=4m",
            "import os",
            "from bioconvert.checkpoint.output.staging import Staging",
            "from bioconvert.core.errors import TargetError",
            "from bioconvert.checkpoint.folders.verifying import verify_folder",
            "source, small = sys.argv[1] + '/source/model.safetensors', Path(sys.argv[2])",
            "(small / 'out').mkdir(); (small / 'out' / 'old').write_text('1')",
            "import bioconvert.checkpoint.output.output_folder as output",
            "def fill(place, need):",
            "    found = os.statvfs(small)",
            f"    (small / 'fill').write_bytes(bytes(found.f_bavail * found.f_frsize - {blocks} * 4096))",
            "output.check_space = fill",
            "how = dict(overwrite=True, shard_size=300_000)",
            "try: folder_writer.write(source, small / 'out', **how)",
            "except TargetError as error: print(error)",
            "assert [path.name for path in (small / 'out').iterdir()] == ['old']",
            "(small / 'fill').unlink()",
            "output.check_space = lambda place, need: None",
            "left = Staging(small / 'out').leftover()",
            "print('resumed' if left else 'done again')",
            "folder_writer.write(source, small / 'out', resume=left is not None, **how)",
            "assert not verify_folder(small / 'out')",
            "print(sorted(path.name for path in small.iterdir()))",
        )
        assert ran.returncode == 0, ran.stderr
        said, how, left = ran.stdout.splitlines()
        assert "No space left on device" in said
        assert how == ("done again" if blocks < 80 else "resumed")
        assert left == "['out']"
        fault_table.record("a file system that fills up", how)

    def test_a_read_only_file_system(self, tmp_path, source):
        """Where nothing can be written that is an error with the system's words."""
        ran = in_small_file_system(
            tmp_path,
            "size=4m,ro",
            "from bioconvert.core.errors import TargetError",
            "try: folder_writer.write(sys.argv[1] + '/source/model.safetensors', sys.argv[2] + '/out')",
            "except TargetError as error: print(error)",
        )
        assert "could not be written: Read-only file system" in ran.stdout, ran.stderr

    def test_a_target_that_is_mounted(self, tmp_path, source):
        """A folder on which a file system is mounted can't be replaced, and is refused at once."""
        ran = in_small_file_system(
            tmp_path,
            "size=4m",
            "from bioconvert.core.errors import TargetError",
            "try: folder_writer.write(sys.argv[1] + '/source/model.safetensors', sys.argv[2])",
            "except TargetError as error: print(error)",
        )
        assert "is where a file system is mounted; name a folder in it" in ran.stdout, ran.stderr


@pytest.mark.skipif(not os.access(MEMORY, os.W_OK), reason="there is no file system in memory")
class TestOtherFileSystems:
    @pytest.fixture
    def elsewhere(self):
        """Give a folder on another file system."""
        import tempfile

        with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
            yield Path(folder)

    @pytest.mark.parametrize("before", [None, "old"])
    def test_a_link_to_another_file_system(self, tmp_path, elsewhere, source, before):
        """The work is done beside the folder that the link leads to; the link stays."""
        (tmp_path / "link").symlink_to(elsewhere / "out")
        if before:
            (elsewhere / "out").mkdir()
            (elsewhere / "out" / before).write_text("1")
        folder_writer.write(source, tmp_path / "link", overwrite=True)
        assert (tmp_path / "link").is_symlink()
        assert verify_folder(elsewhere / "out") == []
        assert list(elsewhere.iterdir()) == [elsewhere / "out"]

    def test_a_file_system_of_its_own_gives_the_same_bytes(self, tmp_path, elsewhere, source):
        """The same input gives the same files wherever they are written."""
        for target in (tmp_path / "out", elsewhere / "out"):
            folder_writer.write(source, target)
        assert contents(tmp_path / "out") == contents(elsewhere / "out")


class TestModes:
    @pytest.mark.parametrize("mode", [0o700, 0o750, 0o775])
    def test_a_replaced_folder_keeps_its_mode(self, tmp_path, mode):
        """Who could enter the old folder can enter the new one, and nobody else."""
        target = tmp_path / "out"
        target.mkdir()
        (target / "old").write_text("1")
        target.chmod(mode)
        with staged_folder(target, overwrite=True) as folder:
            (folder / "new").write_text("1")
        assert stat.S_IMODE(target.stat().st_mode) == mode

    def test_a_mode_without_writing_for_its_owner(self, tmp_path):
        """Whether the system lets such a folder be replaced or not, the target is old or new."""
        target = tmp_path / "out"
        target.mkdir()
        (target / "old").write_text("1")
        target.chmod(0o555)
        try:
            with staged_folder(target, overwrite=True) as folder:
                (folder / "new").write_text("1")
            expected = ["new"]
        except TargetError:
            expected = ["old"]
        assert [path.name for path in target.iterdir()] == expected

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_a_parent_that_may_not_be_written_to(self, tmp_path):
        """Without the right to write beside the target there is an error and no trace."""
        (tmp_path / "closed").mkdir(mode=0o555)
        with (
            pytest.raises(TargetError, match="Permission denied"),
            staged_folder(tmp_path / "closed" / "out", overwrite=False),
        ):
            pass
        assert not Staging(tmp_path / "closed" / "out").place.exists()

"""A folder appears complete or not at all, and never in place of what it doesn't replace."""

import os
import stat
from pathlib import Path

import pytest

from bioconvert.checkpoint.output import publishing, staging
from bioconvert.checkpoint.output.new_files import write_file
from bioconvert.checkpoint.output.staging import staged_folder
from bioconvert.core.errors import TargetError

OLD, NEW = {"old": b"1"}, {"new": b"2"}
PAIR = {"one": b"1", "two": b"2"}


def content(folder):
    """Give the files of a folder; ``None`` where it is absent."""
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else None


def names_in(folder):
    """Name everything in a folder."""
    return sorted(path.name for path in folder.iterdir())


def fill(target, files=NEW, *, overwrite=False):
    """Write files to a target; what isn't bytes is raised or called when its turn comes."""
    with staged_folder(target, overwrite=overwrite) as folder:
        for name, data in files.items():
            if isinstance(data, bytes):
                write_file(folder / name, [data])
            elif isinstance(data, type):
                raise data
            else:
                data()


def put(target, files):
    """Make a folder with files."""
    if files is not None:
        target.mkdir()
        for name, data in files.items():
            (target / name).write_bytes(data)


@pytest.fixture(params=["exchange", "aside"])
def way(request, monkeypatch):
    """Replace folders in one step, or, as where the system can't, in two."""
    if request.param == "aside":
        monkeypatch.setattr(publishing, "exchange", lambda one, other: False)
    return request.param


TARGETS = [
    pytest.param(None, False, id="absent"),
    pytest.param({}, False, id="empty"),
    pytest.param(OLD, True, id="overwritten"),
    pytest.param(None, True, id="absent, may be overwritten"),
]


@pytest.mark.parametrize(("before", "overwrite"), TARGETS)
@pytest.mark.usefixtures("way")
class TestEveryTarget:
    def test_the_new_folder_stands_alone(self, tmp_path, before, overwrite):
        """The target holds the new files only, and nothing is left beside it."""
        target = tmp_path / "out"
        put(target, before)
        fill(target, overwrite=overwrite)
        assert content(target) == NEW
        assert names_in(tmp_path) == ["out"]

    @pytest.mark.parametrize(
        "call", ["fsync", "replace", "mkdir", "open", "write", "chmod", "unlink", "rmdir"]
    )
    def test_any_failure_leaves_the_target_as_it_was(self, tmp_path, monkeypatch, before, overwrite, call):
        """Whichever call to the system fails, whichever time, the target is as before or complete."""
        monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # the disk itself plays no part here
        for moment in range(1, 30):
            target = tmp_path / f"{call}{moment}" / "out"
            target.parent.mkdir()
            put(target, before)
            failing = Failing(getattr(os, call), moment)
            with monkeypatch.context() as patch:
                patch.setattr(os, call, failing)
                error = outcome(target, overwrite=overwrite)
            assert content(target) == (PAIR if error is None else before)
            assert set(names_in(target.parent)) <= {"out", ".out.bioconvert-partial"}
            fill(target, overwrite=True)
            assert names_in(target.parent) == ["out"]
            if failing.calls < moment:
                return
        pytest.fail("the calls did not end")

    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
    def test_an_error_inside_leaves_the_target_as_it_was(self, tmp_path, before, overwrite, error):
        """What fails while the files are made passes through, and nothing is left."""
        target = tmp_path / "out"
        put(target, before)
        with pytest.raises(error):
            fill(target, {"part": b"1", "more": error}, overwrite=overwrite)
        assert content(target) == before
        assert names_in(tmp_path) in ([], ["out"])


def outcome(target, *, overwrite):
    """Write two files; give what the system's refusal became, if it refused."""
    try:
        fill(target, PAIR, overwrite=overwrite)
    except TargetError as error:
        return error if isinstance(error.__cause__, OSError) and "No space left" in str(error) else "other"
    return None


class Failing:
    """Fails at one call of a function of the system, and works at all others."""

    def __init__(self, function, moment):
        self.function, self.moment, self.calls = function, moment, 0

    def __call__(self, *args, **kwargs):
        self.calls += 1
        if self.calls == self.moment:
            raise OSError(28, "No space left on device")
        return self.function(*args, **kwargs)


class TestWhatRemains:
    def test_an_old_folder_that_cannot_be_removed_is_said_to_remain(self, tmp_path, monkeypatch, caplog):
        """The new folder is in place, which is what counts; the rest is a warning."""
        put(tmp_path / "out", OLD)

        def refuse(path, ignore_errors=False):
            if not ignore_errors:
                raise OSError(16, "Device or resource busy")

        monkeypatch.setattr(staging.shutil, "rmtree", refuse)
        fill(tmp_path / "out", overwrite=True)
        assert content(tmp_path / "out") == NEW
        assert "could not be removed" in caplog.text

    def test_an_exchange_that_cannot_be_undone_leaves_the_new_folder(self, tmp_path, monkeypatch):
        """Where the parent can't be synced, nor the exchange undone, the complete new folder stays."""
        put(tmp_path / "out", OLD)
        once = iter([True])
        monkeypatch.setattr(publishing, "exchange", lambda one, other: next(once, False) and swap(one, other))
        monkeypatch.setattr(os, "fsync", Failing(os.fsync, 3))
        with pytest.raises(TargetError, match="could not be exchanged back"):
            fill(tmp_path / "out", overwrite=True)
        assert content(tmp_path / "out") == NEW

    def test_a_system_without_exchange_renames_twice(self, monkeypatch):
        """Where the C library has no renameat2, nothing is exchanged."""
        monkeypatch.setattr(publishing.ctypes, "CDLL", lambda *_, **__: object())
        assert not publishing.exchange(Path("a"), Path("b"))


def swap(one, other):
    """Exchange two names by way of a third."""
    spare = one.with_name("spare")
    one.rename(spare)
    other.rename(one)
    spare.rename(other)
    return True


class TestRefusedTargets:
    def test_a_folder_in_use_is_not_touched(self, tmp_path):
        """A folder that isn't empty is replaced on demand only."""
        put(tmp_path / "out", OLD)
        with pytest.raises(TargetError, match="isn't empty"):
            fill(tmp_path / "out")
        assert content(tmp_path / "out") == OLD

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_a_file_is_never_replaced_by_a_folder(self, tmp_path, overwrite):
        """A file of the target's name is an error, overwriting or not."""
        (tmp_path / "out").write_bytes(b"1")
        with pytest.raises(TargetError, match="but is a file"):
            fill(tmp_path / "out", overwrite=overwrite)
        assert (tmp_path / "out").read_bytes() == b"1"

    def test_a_folder_that_appears_meanwhile_wins(self, tmp_path):
        """Of two that write to one target, the second to finish is refused."""
        with pytest.raises(TargetError, match="isn't empty"):
            fill(tmp_path / "out", {"new": b"2", "more": lambda: put(tmp_path / "out", OLD)})
        assert content(tmp_path / "out") == OLD
        assert names_in(tmp_path) == ["out"]

    def test_an_unwritable_place_is_an_error_with_its_cause(self, tmp_path):
        """What the system refuses is a TargetError that carries the system's reason."""
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(
            TargetError, match=r"could not be written: (File exists|Not a directory)"
        ) as caught:
            fill(tmp_path / "file" / "out")
        assert isinstance(caught.value.__cause__, OSError)


class TestPlaces:
    def test_missing_parents_are_made(self, tmp_path):
        """The folders above the target need not exist."""
        fill(tmp_path / "a" / "b" / "out")
        assert content(tmp_path / "a" / "b" / "out") == NEW

    def test_a_link_is_followed(self, tmp_path):
        """A link to a folder goes on leading to it."""
        put(tmp_path / "real", {})
        (tmp_path / "link").symlink_to("real")
        fill(tmp_path / "link")
        assert (tmp_path / "link").is_symlink()
        assert content(tmp_path / "real") == NEW

    @pytest.mark.parametrize(
        ("mask", "file_mode", "folder_mode"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700)]
    )
    def test_modes_are_what_the_umask_leaves(self, tmp_path, mask, file_mode, folder_mode):
        """Files have 0666 and folders 0777, less the umask."""
        before = os.umask(mask)
        try:
            fill(tmp_path / "out")
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == folder_mode
        assert stat.S_IMODE((tmp_path / "out" / "new").stat().st_mode) == file_mode

    def test_everything_reaches_the_disk_before_the_name_changes(self, tmp_path, monkeypatch):
        """Every file and the folder are synced, then the name changes, then the parent is synced."""
        done = []
        sync, replace = os.fsync, os.replace
        monkeypatch.setattr(
            os, "fsync", lambda fd: (done.append(str(Path(f"/proc/self/fd/{fd}").readlink())), sync(fd))
        )
        monkeypatch.setattr(os, "replace", lambda a, b: (done.append("rename"), replace(a, b)))
        fill(tmp_path / "out")
        staged = done[1]
        assert done == [f"{staged}/new", staged, "rename", str(tmp_path)]

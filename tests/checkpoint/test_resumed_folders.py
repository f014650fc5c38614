"""Work that was interrupted goes on from its last finished file, if it still is the same work."""

import json
from dataclasses import replace

import pytest
from fault_runs import contents
from folder_writer import manifest

from bioconvert.checkpoint.folders.verifying import verify_folder
from bioconvert.checkpoint.output.journal import Job, read_journal
from bioconvert.checkpoint.output.locks import locked_folder
from bioconvert.checkpoint.output.output_folder import Content, check_begun, write_folder
from bioconvert.checkpoint.output.staging import Staging, claimed, remove_leftover, unfinished_beside
from bioconvert.checkpoint.output.writing import Payload
from bioconvert.core.errors import TargetError, UnsafeFileError

NAMES = ("a", "b", "c", "d")
JOB = Job({"the seed": 0}, {"command": "none"})
AGAIN = replace(JOB, resume=True)


class Tensors:
    """Tensors of which each fills a file, and of which the computation may fail.

    Args:
        failing: name of the tensor that can't be computed.
        error: what is raised instead.
    """

    def __init__(self, failing=None, error=KeyboardInterrupt):
        self.failing, self.error, self.computed = failing, error, []

    def __iter__(self):
        return (Payload(name, "U8", (1000,), 1000, lambda name=name: self._blocks(name)) for name in NAMES)

    def _blocks(self, name):
        self.computed.append(name)
        yield memoryview(name.encode() * 500)
        if name == self.failing:
            raise self.error
        yield memoryview(name.encode() * 500)


def write(target, tensors, *, job=JOB, overwrite=False, shard_size=1000, tool="1", originals=False):
    """Write a folder."""
    payloads = list(tensors)
    content = Content(payloads, payloads[-1:] if originals else (), (), shard_size)
    write_folder(target, content, manifest(tool), overwrite=overwrite, job=job)


@pytest.fixture
def whole(tmp_path):
    """Give the files of a folder that was written without an interruption."""
    write(tmp_path / "whole", Tensors(), job=None)
    return contents(tmp_path / "whole")


@pytest.fixture
def target(tmp_path):
    """Give a target beside which lies a conversion that stopped in its third file."""
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "out", Tensors(failing="c"))
    return tmp_path / "out"


class TestResuming:
    def test_finished_files_are_not_computed_again(self, target, whole):
        """Only what was not finished is computed, and the result is that of an uninterrupted run."""
        tensors = Tensors()
        write(target, tensors, job=AGAIN)
        assert tensors.computed == ["c", "d"]
        assert contents(target) == whole
        assert verify_folder(target) == []
        assert not Staging(target).place.exists()

    def test_it_may_be_interrupted_again(self, target, whole):
        """What a resumed run has finished is kept as well."""
        with pytest.raises(KeyboardInterrupt):
            write(target, Tensors(failing="d"), job=AGAIN)
        tensors = Tensors()
        write(target, tensors, job=AGAIN)
        assert tensors.computed == ["d"]
        assert contents(target) == whole

    def test_originals_are_on_record_too(self, tmp_path):
        """Files of original values are kept like those of the model's tensors."""
        write(tmp_path / "whole", Tensors(), originals=True)
        tensors = Tensors()
        list_of = list(tensors)
        broken = Payload("d", "U8", (1000,), 1000, lambda: iter([memoryview(b"x" * 999), 1]))
        with pytest.raises(TypeError):
            write_folder(
                tmp_path / "out", Content(list_of, [broken], (), 1000), manifest(), overwrite=False, job=JOB
            )
        tensors.computed.clear()
        write(tmp_path / "out", tensors, job=AGAIN, originals=True)
        assert tensors.computed == ["d"]
        assert contents(tmp_path / "out") == contents(tmp_path / "whole")

    def test_a_journal_cut_anywhere_is_read_up_to_there(self, target, whole, tmp_path):
        """A line that is cut short counts for nothing, and the file it was about is written again."""
        journal = Staging(target).journal
        text, files = journal.read_bytes(), contents(Staging(target).folder)
        ends = [position for position in range(len(text) + 1) if position == 0 or text[position - 1] == 10]
        for length in (*ends[1:], *(end - 1 for end in ends[1:]), len(text) // 2):
            staging = Staging(tmp_path / f"cut{length}")
            staging.folder.mkdir(parents=True)
            for name, data in files.items():
                (staging.folder / name).write_bytes(data)
            staging.journal.write_bytes(text[:length])
            tensors = Tensors()
            write(staging.target, tensors, job=AGAIN)
            finished = sum(end <= length for end in ends[2:])
            assert tensors.computed == list(NAMES[finished:])
            assert contents(staging.target) == whole

    @pytest.mark.parametrize("damage", ["flipped", "cut", "missing"])
    def test_a_damaged_file_is_written_again(self, target, whole, damage):
        """A file on record that doesn't have its hashes is made anew."""
        path = Staging(target).folder / "model-00001-of-00004.safetensors"
        data = path.read_bytes()
        path.write_bytes(data[:-1] + b"!" if damage == "flipped" else data[:-1])
        if damage == "missing":
            path.unlink()
        tensors = Tensors()
        write(target, tensors, job=AGAIN)
        assert tensors.computed == ["a", "c", "d"]
        assert contents(target) == whole

    def test_without_anything_to_go_on_with_it_begins(self, tmp_path, whole):
        """A job that may go on with something begins where there is nothing."""
        write(tmp_path / "out", Tensors(), job=AGAIN)
        assert contents(tmp_path / "out") == whole


CHANGES = [
    pytest.param({"job": Job({"the seed": 1}, {}, True)}, "the seed", id="a part of the key"),
    pytest.param({"job": Job({}, {}, True)}, "the seed", id="a part that is gone"),
    pytest.param({"job": AGAIN, "tool": "2"}, "the versions in the manifest", id="a version"),
    pytest.param({"job": AGAIN, "shard_size": 2000}, "the shard size", id="the shard size"),
    pytest.param({"job": AGAIN, "originals": True}, "the tensors", id="the tensors"),
]


class TestRefusing:
    @pytest.mark.parametrize(("changed", "named"), CHANGES)
    def test_other_work_is_not_a_continuation(self, target, changed, named):
        """What makes another result is refused, with the name of what changed, and nothing is lost."""
        before = contents(Staging(target).folder)
        with pytest.raises(TargetError, match=f"since {named} changed"):
            write(target, Tensors(), **changed)
        assert contents(Staging(target).folder) == before
        assert Staging(target).leftover() is not None

    def test_a_change_is_found_before_anything_is_read(self, target):
        """The part of the key that a command knows is compared by itself."""
        check_begun(target, AGAIN)
        with pytest.raises(TargetError, match="since the seed changed"):
            check_begun(target, Job({"the seed": 1}, {}, True))

    def test_unfinished_work_is_not_thrown_away_silently(self, target):
        """A new run is refused with advice, whatever it is of."""
        for job in (JOB, None):
            with pytest.raises(TargetError, match=r"continue it by `bioconvert resume .*out`, or start anew"):
                write(target, Tensors(), job=job)
        assert "`bioconvert resume" in unfinished_beside(target)

    @pytest.mark.parametrize("job", [JOB, None], ids=["job", "no job"])
    def test_it_is_thrown_away_on_demand(self, target, whole, job):
        """Overwriting means to start anew."""
        tensors = Tensors()
        write(target, tensors, overwrite=True, job=job)
        assert tensors.computed == list(NAMES)
        assert contents(target) == whole

    def test_names_in_a_journal_are_of_its_folder(self, target):
        """A journal can't lead out of its folder."""
        journal = Staging(target).journal
        journal.write_text(journal.read_text().replace('"file":"model-00001', '"file":"../model-00001', 1))
        with pytest.raises(UnsafeFileError, match="files of its own folder only"):
            read_journal(journal)


class TestWhatIsKept:
    def test_nothing_without_a_finished_file(self, tmp_path):
        """An interruption in the first file leaves nothing."""
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path / "out", Tensors(failing="a"))
        assert list(tmp_path.iterdir()) == []

    def test_nothing_without_a_job(self, tmp_path):
        """Nobody could continue what has no job."""
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path / "out", Tensors(failing="c"), job=None)
        assert list(tmp_path.iterdir()) == []

    def test_an_interruption_says_how_to_go_on(self, tmp_path, caplog):
        """Whoever interrupts the work learns the command that continues it."""
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path / "out", Tensors(failing="c"))
        assert "`bioconvert resume" in caplog.text

    def test_an_error_says_how_to_go_on(self, tmp_path, monkeypatch):
        """So does whoever meets a full disk."""
        from bioconvert.checkpoint.output import new_files

        real, calls = new_files.os.write, []

        def full(descriptor, data):
            calls.append(len(data))
            if len([size for size in calls if size >= 1000]) > 2:
                raise OSError(28, "No space left on device")
            return real(descriptor, data)

        monkeypatch.setattr(new_files.os, "write", full)
        with pytest.raises(TargetError, match=r"No space left.*`bioconvert resume .*` goes on"):
            write(tmp_path / "out", Tensors())

    def test_a_source_that_cannot_be_read_is_named(self, tmp_path):
        """An input error while a tensor is read is no error of the target."""
        from bioconvert.core.errors import CheckpointError

        with pytest.raises(CheckpointError, match="tensor 'a' could not be read: Input/output error"):
            write(tmp_path / "out", Tensors(failing="a", error=OSError(5, "Input/output error")))

    def test_a_leftover_of_complete_work_is_no_unfinished_work(self, tmp_path, monkeypatch, whole):
        """Where only the clearing up was missed, a later run clears up."""
        with monkeypatch.context() as patch:
            patch.setattr(Staging, "clear", lambda self: None)
            write(tmp_path / "out", Tensors())
        staging = Staging(tmp_path / "out")
        assert json.loads(staging.journal.read_text().splitlines()[-1]).keys() == {"complete"}
        assert staging.leftover() is None
        remove_leftover(staging)
        assert not staging.place.exists()
        assert contents(staging.target) == whole

    def test_an_old_folder_aside_gets_its_name_back(self, tmp_path):
        """Killed between two renames, the old folder lies aside; the next run gives it back."""
        staging = Staging(tmp_path / "out")
        staging.aside.mkdir(parents=True)
        (staging.aside / "old").write_bytes(b"1")
        with pytest.raises(TargetError, match="isn't empty"):
            write(tmp_path / "out", Tensors())
        assert contents(tmp_path / "out") == {"old": b"1"}
        assert not staging.place.exists()


class TestOneAtATime:
    def test_a_second_run_is_refused_at_once(self, tmp_path, whole):
        """Two runs can't write to one target; the first isn't disturbed."""
        target = tmp_path / "out"
        with claimed(target, overwrite=False) as staging:
            assert staging.is_busy
            with pytest.raises(TargetError, match=r"another process is writing to .*out"):
                write(target, Tensors())
        assert not staging.is_busy
        write(target, Tensors())
        assert contents(target) == whole

    def test_a_link_is_not_taken_for_the_place(self, tmp_path):
        """Nothing is written into, or removed from, what another has linked there."""
        (tmp_path / "precious").mkdir()
        Staging(tmp_path / "out").place.symlink_to("precious")
        with pytest.raises(TargetError, match="is a link"):
            write(tmp_path / "out", Tensors())

    def test_a_lock_that_was_removed_meanwhile_is_made_anew(self, tmp_path, monkeypatch):
        """Whoever opened the lock of a folder that is gone by the time it is locked tries again."""
        from bioconvert.checkpoint.output import locks

        take, seen = locks._take, []

        def late(descriptor):
            if not seen:
                (tmp_path / "place" / "lock").unlink()
            seen.append(descriptor)
            return take(descriptor)

        monkeypatch.setattr(locks, "_take", late)
        with locked_folder(tmp_path / "place", "there"):
            assert len(seen) == 2
            assert (tmp_path / "place" / "lock").exists()

    def test_a_file_system_without_locks_is_used_with_a_warning(self, tmp_path, monkeypatch, caplog):
        """Where the system has no locks the work is done, and the user is told."""
        from bioconvert.checkpoint.output import locks

        def none(descriptor, how):
            raise OSError(37, "No locks available")

        monkeypatch.setattr(locks.fcntl, "flock", none)
        write(tmp_path / "out", Tensors())
        assert "has no locks" in caplog.text
        assert verify_folder(tmp_path / "out") == []

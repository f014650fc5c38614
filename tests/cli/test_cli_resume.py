"""An interrupted conversion is continued by one command, or refused with what changed."""

import json
import logging
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bioconvert.checkpoint import save_model
from bioconvert.checkpoint.output import new_files
from bioconvert.checkpoint.output.staging import Staging, claimed
from bioconvert.cli.demo_model import DigitsCNN
from bioconvert.cli.job import Asked, job_of
from bioconvert.core.errors import OptionError
from bioconvert.core.sizes import parse_size, size
from bioconvert.ruleset import resolve_rules

ARCH = "bioconvert.cli.demo_model:DigitsCNN"
SMALL = ("--shard-size", "4KiB")


def contents(folder):
    """Give the bytes of every file in a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def words(tmp_path):
    """Give a conversion of the small network into several files; the command but for its target."""
    torch.manual_seed(0)
    (tmp_path / "model").mkdir()
    save_file(DigitsCNN().state_dict(), tmp_path / "model" / "model.safetensors", {"format": "pt"})
    (tmp_path / "mine.yaml").write_text("version: 1\nname: mine\nextends: [yat]\nrules: []\n")
    return ["convert", "model", "--arch", ARCH, "--rules", "mine.yaml", *SMALL]


@pytest.fixture
def whole(bioconvert, words, tmp_path):
    """Give the files of a conversion that was not interrupted."""
    ran = bioconvert(*words, "--out", "whole")
    assert ran.code == 0, ran.err
    return contents(tmp_path / "whole")


@pytest.fixture
def interrupt(bioconvert, monkeypatch):
    """Run a command that the user interrupts when the given number of files are finished."""

    def run(*command, files):
        begun = []
        real = new_files.FileWriter

        def count(descriptor):
            begun.append(descriptor)
            if len(begun) > files:
                raise KeyboardInterrupt
            return real(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(new_files, "FileWriter", count)
            return bioconvert(*command)

    return run


@pytest.fixture
def stopped(interrupt, words, tmp_path):
    """Give the target of a conversion that was interrupted after two files."""
    ran = interrupt(*words, "--out", "out", files=2)
    assert ran.code == 130
    return tmp_path / "out"


class TestInterruption:
    def test_it_ends_in_130_and_says_how_to_go_on(self, interrupt, words, tmp_path):
        """Ctrl-C with finished files on the disk names the command that continues."""
        ran = interrupt(*words, "--out", "out", files=2)
        assert (ran.code, ran.out) == (130, "")
        assert "`bioconvert resume out` goes on" in ran.err
        assert not (tmp_path / "out").exists()

    def test_without_a_finished_file_nothing_is_left(self, interrupt, words, tmp_path):
        """Ctrl-C before that leaves nothing behind."""
        before = sorted(tmp_path.iterdir())
        ran = interrupt(*words, "--out", "out", files=0)
        assert (ran.code, ran.out) == (130, "")
        assert sorted(tmp_path.iterdir()) == before

    def test_a_new_conversion_is_refused_at_once(self, bioconvert, words, stopped):
        """The same command without more doesn't throw away what is finished."""
        ran = bioconvert(*words, "--out", "out")
        assert ran.code == 2
        assert "`bioconvert resume out`" in ran.err
        assert "reading" not in ran.err

    def test_verify_mentions_it(self, bioconvert, interrupt, words, tmp_path):
        """The old folder is sound; that something unfinished lies beside it is no finding, but is said."""
        assert bioconvert(*words, "--out", "out").code == 0
        assert interrupt(*words, "--out", "out", "--overwrite", files=2).code == 130
        ran = bioconvert("verify", "out")
        assert ran.code == 0
        assert ran.out.startswith("sound: ")
        assert "an unfinished conversion to out lies beside it; `bioconvert resume out` goes on" in ran.err


class TestResume:
    def test_result_is_that_of_an_uninterrupted_run(self, bioconvert, whole, stopped):
        """Byte by byte; and nothing is left beside it."""
        ran = bioconvert("resume", "out")
        assert ran.code == 0, ran.err
        assert "2 files finished before" in ran.err
        assert contents(stopped) == whole
        assert not Staging(stopped).place.exists()

    def test_from_anywhere(self, bioconvert, whole, stopped, monkeypatch, tmp_path):
        """The command is repeated in its own working directory, wherever resume is called."""
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert bioconvert("resume", "../out").code == 0
        assert contents(stopped) == whole
        assert Path.cwd() == tmp_path / "elsewhere"

    def test_any_file_name(self, bioconvert, interrupt, words, whole, tmp_path, caplog):
        """A name that isn't Unicode is repeated as well."""
        # Processes that share out the tests can't tell each other of such a name in a log.
        caplog.set_level(logging.CRITICAL, logger="bioconvert")
        name = os.fsdecode(b"r\xe9sum\xe9")
        (tmp_path / "model").rename(tmp_path / name)
        assert interrupt("convert", name, *words[2:], "--out", f"{name} out", files=2).code == 130
        ran = bioconvert("resume", f"{name} out")
        assert ran.code == 0, ran.err
        there = contents(tmp_path / f"{name} out")
        assert {file: there[file] for file in there if file != "bioconvert.json"} == {
            file: whole[file] for file in whole if file != "bioconvert.json"
        }

    def test_the_command_itself_can_go_on(self, bioconvert, words, whole, stopped):
        """With --resume a command continues what there is, and begins where there is nothing."""
        assert bioconvert(*words, "--out", "out", "--resume").code == 0
        assert contents(stopped) == whole
        assert bioconvert(*words, "--out", "new", "--resume").code == 0

    def test_overwrite_starts_anew(self, bioconvert, words, whole, stopped):
        """What was finished is given up on demand."""
        assert bioconvert(*words, "--out", "out", "--overwrite").code == 0
        assert contents(stopped) == whole

    def test_document(self, bioconvert, stopped):
        """The answer is that of convert."""
        document = bioconvert("resume", "out", "--json").document
        assert document["command"] == "resume"
        assert document["out"] == str(stopped)
        assert document["report"]["applied"]


def other_rules(at):
    """Change what the rule file says."""
    keep = "rules:\n  - match: {path: block1.**}\n    keep: true\n"
    (at / "mine.yaml").write_text(f"version: 1\nname: mine\nextends: [yat]\n{keep}")


def other_source(at):
    """Touch the checkpoint."""
    os.utime(at / "model" / "model.safetensors", (1, 1))


def another_file(at):
    """Put a file beside the weights, which would be carried over."""
    (at / "model" / "config.txt").write_text("x")


CHANGES = [
    pytest.param(other_rules, "the content of the rules", id="rules"),
    pytest.param(other_source, "the file model/model.safetensors", id="source"),
    pytest.param(another_file, "the file model/config.txt", id="a file beside it"),
]


def key_of(file):
    """Give what a job takes down of a file."""
    return job_of(Asked.here("convert", {}), resolve_rules("yat"), (file,), resume=False).key


def put_command(target, change):
    """Change the command that a journal names."""
    journal = Staging(target).journal
    opening, *rest = map(json.loads, journal.read_text().splitlines())
    opening["command_text"] = json.dumps(change(json.loads(opening["command_text"])))
    journal.write_text("".join(json.dumps(line) + "\n" for line in (opening, *rest)))


class TestRefusal:
    @pytest.mark.parametrize(("change", "named"), CHANGES)
    def test_what_changed_is_named(self, bioconvert, stopped, tmp_path, change, named):
        """Another source or other rules would not give what was begun; nothing is read, nothing is lost."""
        change(tmp_path)
        ran = bioconvert("resume", "out")
        assert (ran.code, ran.out) == (2, "")
        assert f"since {named} changed" in ran.err
        assert "reading" not in ran.err
        assert Staging(stopped).leftover() is not None

    def test_a_change_that_no_listing_shows(self, tmp_path):
        """Other values at the end of a large file are noticed though its size and time are as they were."""
        path = tmp_path / "large"
        path.write_bytes(bytes(3 << 20))
        found, before = path.stat(), key_of(path)
        with path.open("r+b") as handle:
            handle.seek(-1, os.SEEK_END)
            handle.write(b"x")
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
        assert key_of(path) != before

    def test_shards_that_only_an_index_names(self, tmp_path):
        """Where an index stands for a checkpoint, its shards may not change either."""
        save_model(DigitsCNN(), tmp_path / "model", shard_size=4096)
        index = tmp_path / "model" / "model.safetensors.index.json"
        before = key_of(index)
        shard = next((tmp_path / "model").glob("*.safetensors"))
        os.utime(shard, (1, 1))
        assert key_of(index) != before

    def test_version(self, bioconvert, stopped, monkeypatch):
        """Another version of bioconvert doesn't continue."""
        monkeypatch.setattr("bioconvert.cli.job.__version__", "0.0.0")
        ran = bioconvert("resume", "out")
        assert ran.code == 2
        assert "the versions of bioconvert and torch changed" in ran.err

    def test_nothing_to_resume(self, bioconvert):
        """Without unfinished work there is nothing to do but an error."""
        ran = bioconvert("resume", "out")
        assert (ran.code, ran.out) == (2, "")
        assert "nothing unfinished lies beside it" in ran.err

    def test_complete_already(self, bioconvert, words):
        """A complete folder needs no more."""
        assert bioconvert(*words, "--out", "out").code == 0
        ran = bioconvert("resume", "out")
        assert (ran.code, ran.out) == (0, "out is complete: there was nothing left to do\n")

    def test_busy(self, bioconvert, stopped):
        """While a process writes, another can neither convert nor resume."""
        with claimed(stopped, overwrite=False, resume=True):
            ran = bioconvert("resume", "out")
        assert ran.code == 2
        assert "another process is writing to out" in ran.err

    def test_code_is_run_only_if_asked_again(self, bioconvert, stopped):
        """A journal can't decide that unsafe files may run their code."""
        put_command(
            stopped, lambda asked: {**asked, "arguments": {**asked["arguments"], "unsafe_pickle": True}}
        )
        ran = bioconvert("resume", "out")
        assert ran.code == 2
        assert "give that to resume, too" in ran.err

    @pytest.mark.parametrize(
        "command",
        [
            pytest.param({}, id="none"),
            pytest.param({"command": "revert", "arguments": {}, "folder": "."}, id="another"),
            pytest.param(
                {"command": "convert", "arguments": {"depth": 1}, "folder": "."}, id="of the future"
            ),
            pytest.param({"command": "convert", "arguments": {}, "folder": "."}, id="nothing to convert"),
        ],
    )
    def test_a_journal_without_a_command(self, bioconvert, stopped, command):
        """What doesn't say how to repeat it can't be repeated."""
        put_command(stopped, lambda _: command)
        ran = bioconvert("resume", "out")
        assert ran.code == 3
        assert "names no command that can be repeated" in ran.err

    @pytest.mark.parametrize("text", ["", "no JSON", "[1]", "[" * 100_000])
    def test_a_journal_that_is_damaged(self, bioconvert, stopped, text):
        """An opening that says nothing of use is that of no unfinished work."""
        journal = Staging(stopped).journal
        opening, *rest = map(json.loads, journal.read_text().splitlines())
        opening["key_text"] = text
        journal.write_text("".join(json.dumps(line) + "\n" for line in (opening, *rest)))
        ran = bioconvert("resume", "out")
        assert ran.code == 2
        assert "nothing unfinished lies beside it" in ran.err


class TestInPlace:
    def test_a_folder_is_replaced_by_its_conversion(self, bioconvert, words, whole, tmp_path):
        """The folder holds what a conversion elsewhere would hold, and keeps its mode."""
        (tmp_path / "model").chmod(0o750)
        assert bioconvert(*words, "--in-place").code == 0
        assert contents(tmp_path / "model") == whole
        assert (tmp_path / "model").stat().st_mode & 0o777 == 0o750
        assert bioconvert("verify", "model").code == 0

    def test_interrupted_and_resumed(self, bioconvert, interrupt, words, whole, tmp_path):
        """The source stays as it was until the conversion is complete."""
        before = contents(tmp_path / "model")
        assert interrupt(*words, "--in-place", files=2).code == 130
        assert contents(tmp_path / "model") == before
        assert bioconvert("resume", "model").code == 0
        assert contents(tmp_path / "model") == whole

    def test_a_file_is_refused(self, bioconvert, words, tmp_path):
        """Only a folder can be replaced by a folder."""
        file = tmp_path / "model" / "model.safetensors"
        ran = bioconvert("convert", file, *words[2:], "--in-place")
        assert ran.code == 2
        assert "give --out DIR" in ran.err

    def test_what_would_be_lost_is_named(self, bioconvert, words, tmp_path):
        """A folder with more in it than a checkpoint is left alone."""
        (tmp_path / "model" / "runs").mkdir()
        (tmp_path / "model" / ".git").mkdir()
        ran = bioconvert(*words, "--in-place")
        assert ran.code == 2
        assert "would lose what is no part of the checkpoint: .git, runs;" in ran.err

    def test_a_target_is_one_too_many(self, bioconvert, words):
        """--out and --in-place exclude each other."""
        ran = bioconvert(*words, "--in-place", "--out", "out")
        assert ran.code == 2
        assert "not both" in ran.err

    def test_the_root_is_no_target(self, bioconvert, words):
        """Where a file system is mounted nothing can be replaced."""
        ran = bioconvert(*words, "--out", "/", "--overwrite")
        assert ran.code == 2
        assert "is where a file system is mounted" in ran.err

    def test_overwriting_never_takes_the_source_with_it(self, bioconvert, words, tmp_path):
        """A target that holds the checkpoint is refused, overwriting or not."""
        before = contents(tmp_path / "model")
        for target in ("model", "."):
            ran = bioconvert(*words, "--out", target, "--overwrite")
            assert ran.code == 2
            assert "holds the checkpoint itself" in ran.err
        assert contents(tmp_path / "model") == before


class TestSizes:
    @pytest.mark.parametrize(
        ("text", "count"),
        [("2GiB", 2 << 30), ("500 MB", 500_000_000), ("1.5kib", 1536), ("7", 7), ("1TB", 10**12)],
    )
    def test_size_is_read(self, text, count):
        """Binary and decimal units, in any case."""
        assert parse_size(text) == count

    @pytest.mark.parametrize("text", ["", "0", "-1", "2 apples", "GiB", "1e9", "0.1"])
    def test_no_size(self, text):
        """Anything else is an error that shows how to write it."""
        with pytest.raises(OptionError, match="as 2GiB or 500MB"):
            parse_size(text)

    def test_size_is_said(self):
        """In binary units, one digit after the point."""
        assert [size(1), size(1536), size(3.5 * 2**30)] == ["1 B", "1.5 KiB", "3.5 GiB"]

    def test_wrong_shard_size_is_found_first(self, bioconvert, words):
        """A size that can't be read ends the command before anything is read."""
        ran = bioconvert(*words[:-1], "much", "--out", "out")
        assert ran.code == 2
        assert "reading" not in ran.err


class TestProgress:
    def test_a_line_for_each_file(self, bioconvert, words):
        """Off a terminal each finished file is a line with bytes, rate and remaining time."""
        ran = bioconvert(*words, "--out", "out")
        lines = re.findall(
            r"(\S+\.safetensors): \S+ \S+ of \S+ \S+ are written, \S+ \S+/s, \d+ s left", ran.err
        )
        assert len(lines) == len(set(lines)) > 3

    def test_more_than_was_expected(self):
        """Bytes around the tensors, as of a training dict, make the whole larger."""
        from bioconvert.cli.transfers import Lines
        from bioconvert.core.progress import Transfer, following

        said = []
        with following(Lines(said.append)):
            transfer = Transfer("writing out", 1 << 20)
            transfer.add(2 << 20)
            transfer.finish("model.pt")
        assert [line.partition(",")[0] for line in said] == ["model.pt: 2.0 MiB of 2.0 MiB are written"]

    def test_a_bar_on_a_terminal(self, monkeypatch):
        """A bar with bytes, rate and remaining time is drawn once there is something to show."""
        import io

        from rich.console import Console

        from bioconvert.cli.transfers import Bar
        from bioconvert.core.progress import Transfer, following

        screen, stopped = io.StringIO(), []
        bar = Bar(Console(file=screen, force_terminal=True, width=100), lambda: stopped.append(True))
        with following(bar):
            transfer = Transfer("writing [b]out", 4 << 20)
            for _ in range(4):
                transfer.add(1 << 20)
        bar.close()
        assert stopped == [True]
        assert "writing [b]out" in screen.getvalue()
        assert "4.2/4.2 MB" in screen.getvalue() or "4.0/4.0 MiB" in screen.getvalue()


class TestResources:
    def test_a_disk_that_is_too_small(self, bioconvert, words, tmp_path, monkeypatch):
        """Too little space is found before anything is read or written, with both numbers."""
        real = os.statvfs

        def full(path):
            found = real(path)
            return os.statvfs_result((*found[:4], 1, *found[5:]))

        before = sorted(tmp_path.iterdir())
        monkeypatch.setattr(os, "statvfs", full)
        ran = bioconvert(*words, "--out", "out")
        assert (ran.code, ran.out) == (4, "")
        assert re.search(
            r"^error: out: \S+ KiB are to be written, but only 4\.0 KiB of disk space are free", ran.err
        )
        assert sorted(tmp_path.iterdir()) == before


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
class TestRealProcesses:
    @pytest.mark.parametrize(("signal", "code"), [("INT", 130), ("KILL", None), ("TERM", None)])
    @pytest.mark.parametrize("moment", [1, 5, 12])
    def test_a_signal_while_writing(self, bioconvert, words, whole, tmp_path, signal, code, moment):
        """The command, hit by a signal at a write to the disk, leaves nothing or what resume finishes."""
        import subprocess
        import sys

        ran = subprocess.run(
            ["env", "--default-signal=INT", "strace", "-f", "-qq", "-o", "/dev/null",
             "-e", f"inject=fsync:signal={signal}:when={moment}",
             sys.executable, "-m", "bioconvert", *words, "--out", "out"],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if "attach" in ran.stderr or "PTRACE" in ran.stderr:
            pytest.skip("strace may not trace here")
        assert ran.returncode == code or (code is None and ran.returncode != 0), ran.stderr
        assert "Traceback" not in ran.stderr
        assert not (tmp_path / "out").exists()
        left = Staging(tmp_path / "out").leftover() is not None
        assert left is (moment > 1)
        again = ["resume", "out"] if left else [*words, "--out", "out"]
        assert bioconvert(*again).code == 0
        assert contents(tmp_path / "out") == whole

"""What doctor finds, line by line."""

import fcntl
import os
from importlib.metadata import EntryPoint

import pytest

from bioconvert.checkpoint.folders.manifest import FileRecord
from bioconvert.checkpoint.output import publishing
from bioconvert.checkpoint.output.journal import FinishedFile, Opening
from bioconvert.checkpoint.output.staging import Staging
from bioconvert.cli import health


def _findings(ran, group=None):
    found = ran.document["findings"]
    return {each["name"]: each for each in found if group in (None, each["group"])}


def test_each_matter_is_a_line(bioconvert):
    """Versions, plugins, machine, folder and settings are looked at; the text says the same."""
    ran = bioconvert("doctor", "--json")
    groups = {each["group"] for each in ran.document["findings"]}
    assert groups == {"versions", "plugins", "machine", "folder", "settings"}
    assert {"bioconvert", "python", "torch", "safetensors"} <= _findings(ran, "versions").keys()
    assert {"processors", "threads of torch", "devices"} <= _findings(ran, "machine").keys()
    text = bioconvert("doctor").out
    assert max(map(len, text.splitlines())) <= 80
    assert text.splitlines()[-1] in ("all is well", f"{ran.document['warnings']} warnings", "1 warning")


def test_warnings_end_in_one(bioconvert, monkeypatch):
    """The code is 0 where all is well and 1 where there is a warning."""
    monkeypatch.setattr(health, "LITTLE", 1)
    assert (bioconvert("doctor").code, bioconvert("doctor", "--json").document["warnings"]) == (0, 0)
    monkeypatch.setattr(health, "LITTLE", 1 << 60)
    ran = bioconvert("doctor")
    assert ran.code == 1
    assert "→ less than" in ran.out


def test_old_and_missing_packages(monkeypatch):
    """What is needed and missing or too old is a warning with the command that helps; extras are not."""
    versions = {"torch": "2.9.1+cpu", "safetensors": None, "timm": None, "numpy": "2.0"}
    monkeypatch.setattr(health, "_version", lambda name: versions.get(name, "9.9"))
    found = {each.name: each for each in health.installed()}
    assert (found["torch"].ok, found["torch"].value) == (False, "2.9.1+cpu")
    assert "at least 2.10" in found["torch"].advice
    assert (found["safetensors"].ok, found["safetensors"].advice) == (False, "pip install safetensors")
    assert found["numpy"].ok
    assert "timm" not in found


def test_failing_plugins_are_named(monkeypatch):
    """A plugin that can't be imported is a warning with the error, and the others are still looked at."""
    entries = [
        EntryPoint("broken", "no_such_module_at_all", health.GROUP),
        EntryPoint("sound", "bioconvert.replacements", health.GROUP),
    ]
    monkeypatch.setattr(health, "entry_points", lambda group: entries)
    broken, sound = health.plugins()
    assert (broken.ok, sound.ok) == (False, True)
    assert "ModuleNotFoundError: No module named 'no_such_module_at_all'" in broken.value


class TestFolder:
    def test_leftovers_are_named(self, bioconvert, tmp_path):
        """What an interrupted conversion left is a warning that says what becomes of it."""
        (tmp_path / ".out.bioconvert-partial").mkdir()
        (tmp_path / ".out.bioconvert-partial" / "shard").write_text("half")
        ran = bioconvert("doctor", "--json")
        found = _findings(ran)[".out.bioconvert-partial"]
        assert (ran.code, found["ok"]) == (1, False)
        assert found["value"] == "left by an interrupted conversion to out, with nothing to go on from"
        assert "the next one there removes it" in found["advice"]

    def test_unfinished_work_is_named(self, bioconvert, tmp_path):
        """Where files were finished, the warning says how to go on."""
        journal = Staging(tmp_path / "out").journal
        journal.parent.mkdir()
        opening = Opening.of({}, {})
        file = FinishedFile(file="a.safetensors", record=FileRecord(size=1, sha256=""), tensors={})
        journal.write_text("".join(f"{line.model_dump_json()}\n" for line in (opening, file)))
        found = _findings(bioconvert("doctor", "--json"))[".out.bioconvert-partial"]
        assert found["value"] == "an unfinished conversion to out, 1 finished file"
        assert "bioconvert resume out" in found["advice"]

    def test_a_running_conversion_is_no_leftover(self, bioconvert, tmp_path):
        """A folder that a process holds is in use."""
        place = tmp_path / ".out.bioconvert-partial"
        place.mkdir()
        with (place / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            found = _findings(bioconvert("doctor", "--json"))[place.name]
        assert (found["ok"], found["value"]) == (True, "a process is writing out")

    def test_what_a_file_system_lacks(self, bioconvert, monkeypatch):
        """Where folders can't be exchanged, that is a warning with what it means."""
        monkeypatch.setattr(publishing, "exchange", lambda one, other: False)
        found = _findings(bioconvert("doctor", "--json"))["exchange of folders in one step"]
        assert (found["ok"], found["value"]) == (False, "doesn't work")

    def test_probing_leaves_nothing(self, bioconvert, tmp_path):
        """The folder is afterwards as it was."""
        bioconvert("doctor", tmp_path)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_a_folder_that_may_not_be_written_to(self, bioconvert, tmp_path):
        """A read-only folder is a warning, not a failure."""
        (tmp_path / "fixed").mkdir(mode=0o555)
        found = _findings(bioconvert("doctor", "fixed", "--json"))["writing"]
        assert (found["ok"], found["value"]) == (False, "not allowed")

    def test_a_file_is_no_folder(self, bioconvert, tmp_path):
        """A file in place of the folder is a mistake of usage."""
        (tmp_path / "file").write_text("")
        ran = bioconvert("doctor", "file")
        assert (ran.code, ran.err) == (2, "error: file: must be a folder\n")


def test_settings_name_their_file(bioconvert, tmp_path):
    """Which file gives options their defaults, and which options, is told."""
    (tmp_path / "pyproject.toml").write_text('[tool.bioconvert]\nseed = 1\nconvert = {out = "o"}\n')
    found = _findings(bioconvert("doctor", "--json"))["pyproject.toml"]
    assert found["value"] == f"{tmp_path / 'pyproject.toml'}: seed, convert.out"

"""The hash of what is converted, computed in a thread."""

import hashlib

import pytest

from bioconvert.checkpoint.folders.source_hash import SourceHash
from bioconvert.core.errors import CheckpointError


def test_one_file_has_its_own_hash(tmp_path):
    """It is what sha256sum says."""
    (tmp_path / "file").write_bytes(b"content")
    with SourceHash([tmp_path / "file"]) as found:
        assert found.result() == hashlib.sha256(b"content").hexdigest()


def test_several_files_have_that_of_their_list(tmp_path):
    """It is the hash of what sha256sum prints for the files, by name."""
    for name in ("b", "a"):
        (tmp_path / name).write_text(name)
    lines = "".join(f"{hashlib.sha256(name.encode()).hexdigest()}  {name}\n" for name in "ab")
    with SourceHash([tmp_path / "b", tmp_path / "a"]) as found:
        assert found.result() == hashlib.sha256(lines.encode()).hexdigest()


def test_a_file_that_cannot_be_read_is_an_error(tmp_path):
    """The error is that of reading it."""
    with (
        SourceHash([tmp_path / "none"]) as found,
        pytest.raises(CheckpointError, match="there is no such file"),
    ):
        found.result()


def test_leaving_ends_the_work(tmp_path):
    """An unfinished hash doesn't keep a failed conversion waiting."""
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 40)
    with SourceHash([tmp_path / "large"]):
        pass

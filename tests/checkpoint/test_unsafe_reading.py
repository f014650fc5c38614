"""With ``--unsafe-pickle`` a file may run its code, in a process of its own that hands back plain tensors."""

import contextlib
import json
import tempfile
import textwrap
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from checkpoint_samples import Canary, Plain, Tied, same_state
from hostile_samples import RUNS_CODE
from torch import nn

from bioconvert.checkpoint import load_into, read_checkpoint, save_model
from bioconvert.checkpoint.files.needs_code import NeedsCodeError
from bioconvert.checkpoint.formats.unsafe import read_by_code
from bioconvert.core.errors import CheckpointError, OptionError, UnsafeFileError

pytestmark = pytest.mark.slow


class Acts:
    """Runs a piece of Python where it is unpickled."""

    def __init__(self, code):
        self.code = textwrap.dedent(code)

    def __reduce__(self):
        return (exec, (self.code,))


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Give the folder in which temporary files are made."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


def save_distributed(state, folder):
    """Write a distributed checkpoint from one process."""
    with pytest.warns(UserWarning, match=r"torch\.distributed is disabled"):
        dcp.save(state, checkpoint_id=folder)
    return folder


class TestWholeModules:
    def test_a_pickled_model_gives_its_tensors_ties_and_architecture(self, tmp_path, temporary, caplog):
        """Of a whole model its state dict comes back, with what rebuilds it; nothing is left behind."""
        model = Tied()
        torch.save(model, tmp_path / "x.pt")
        found = read_checkpoint(tmp_path / "x.pt", unsafe_pickle=True)
        assert same_state(dict(found.tensors), dict(model.state_dict()))
        assert found.ties == (("encoder.weight", "decoder.weight"),)
        assert found.architecture == {"kind": "callable", "name": "checkpoint_samples:Tied", "args": {}}
        assert "process of its own, as --unsafe-pickle allows" in caplog.text
        assert list(temporary.iterdir()) == []

    def test_models_in_a_training_dict_are_entered(self, tmp_path, caplog):
        """Modules stand for their state dicts, of which one is chosen as ever; the rest can't be kept."""
        averaged = Plain()
        torch.save({"model": Plain(), "ema": averaged, "epoch": 3}, tmp_path / "x.pt")
        found = read_checkpoint(tmp_path / "x.pt", weights="ema", unsafe_pickle=True)
        assert (found.nesting, found.passed_over) == (("ema",), ("model",))
        assert (found.beside, found.by_code) == (("model", "epoch"), True)
        assert same_state(dict(found.tensors), dict(averaged.state_dict()))
        fresh = Plain()
        load_into(fresh, found)
        assert same_state(fresh.state_dict(), averaged.state_dict())
        save_model(fresh, tmp_path / "out", source=found, weights_format="pt")
        assert same_state(dict(torch.load(tmp_path / "out" / "model.pt")), dict(fresh.state_dict()))
        assert "not model, epoch; only its own code can read the rest" in caplog.text

    def test_a_wrapped_model_is_known_by_what_it_wraps(self, tmp_path):
        """A data-parallel wrapper is taken off the names and off the architecture."""
        torch.save(nn.DataParallel(Plain()), tmp_path / "x.pt")
        found = read_checkpoint(tmp_path / "x.pt", unsafe_pickle=True)
        assert found.prefix == "module."
        assert found.architecture == {"kind": "callable", "name": "checkpoint_samples:Plain", "args": {}}

    def test_what_can_be_read_safely_is_not_run(self, tmp_path, caplog):
        """The flag allows code and doesn't ask for it."""
        torch.save(Plain().state_dict(), tmp_path / "x.pt")
        assert read_checkpoint(tmp_path / "x.pt", unsafe_pickle=True).architecture is None
        assert "process of its own" not in caplog.text


class TestDistributed:
    def test_the_shards_are_put_together(self, tmp_path):
        """A distributed checkpoint is read without any group of processes."""
        model = Plain()
        save_distributed({"model": model.state_dict(), "epoch": 3}, tmp_path / "dcp")
        with pytest.raises(NeedsCodeError, match="distributed checkpoint"):
            read_checkpoint(tmp_path / "dcp")
        found = read_checkpoint(tmp_path / "dcp", unsafe_pickle=True)
        assert (found.format, found.nesting) == ("distributed", ("model",))
        assert same_state(dict(found.tensors), dict(model.state_dict()))


@pytest.mark.parametrize("form", ["nested", "exported program"])
def test_the_canary_of_the_other_tests_does_work(tmp_path, form):
    """Allowed to, the pickles of the hostile tests do run their command, and leave this process alone."""
    canary = Canary(tmp_path / "canary")
    path = RUNS_CODE[form](tmp_path, canary)
    with contextlib.suppress(CheckpointError):  # an exported program of integers is no program
        read_checkpoint(path, unsafe_pickle=True)
    assert canary.path.exists()


FAILING = [
    pytest.param("raise ValueError('not today')", CheckpointError, "ValueError: not today", id="raises"),
    pytest.param("import os; os._exit(0)", CheckpointError, "ended the process", id="leaves"),
    pytest.param(
        "print('some words')\nimport os; os._exit(7)", CheckpointError, "some words|code 7", id="words"
    ),
    pytest.param("import os; os.kill(os.getpid(), 9)", CheckpointError, "killed by signal 9", id="killed"),
    pytest.param("import lacking", CheckpointError, "lacking.*must be importable", id="module missing"),
    pytest.param("x = bytearray(1 << 45)", CheckpointError, "MemoryError", id="memory"),
]


@pytest.mark.parametrize(("code", "error", "reason"), FAILING)
def test_code_that_fails_is_an_error_of_one_line(tmp_path, capfd, temporary, code, error, reason):
    """Whatever the code does, it ends in an error of ours; its prints are kept, nothing is left behind."""
    torch.save({"w": torch.ones(1), "x": Acts(code)}, tmp_path / "x.pt")
    with pytest.raises(error, match=reason) as caught:
        read_checkpoint(tmp_path / "x.pt", unsafe_pickle=True)
    assert str(tmp_path / "x.pt") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    assert list(temporary.iterdir()) == []


def test_code_without_an_end_is_stopped_with_all_it_started(tmp_path, temporary):
    """A process that takes too long is ended, and so are its own."""
    child = tmp_path / "child"
    code = f"""
        import subprocess, time
        started = subprocess.Popen(["sleep", "300"])
        open({str(child)!r}, "w").write(str(started.pid))
        time.sleep(300)
    """
    torch.save({"w": torch.ones(1), "x": Acts(code)}, tmp_path / "x.pt")
    with pytest.raises(UnsafeFileError, match="ran for 20 s without an end; stopped"):
        read_by_code(tmp_path / "x.pt", seconds=20)
    assert not _runs(int(child.read_text()))
    assert list(temporary.iterdir()) == []


def _runs(process):
    """Say whether a process is there and no zombie, which only waits for its parent."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_wrong_key_is_named_as_without_code(tmp_path):
    """What the process finds wrong keeps its kind."""
    torch.save({"model": Plain()}, tmp_path / "x.pt")
    with pytest.raises(OptionError, match=r"no weights under 'ema'.*Known: model"):
        read_checkpoint(tmp_path / "x.pt", weights="ema", unsafe_pickle=True)


ANSWERS = [
    pytest.param(
        {"error": {"kind": "first_line", "message": "x"}}, CheckpointError, "^x$", id="no exception"
    ),
    pytest.param({"error": "x"}, CheckpointError, "no usable answer", id="no error"),
    pytest.param({"tensors": []}, CheckpointError, "no usable answer", id="no tensors"),
    pytest.param(
        {"tensors": {"w": {"file": "../x", "dtype": "F32", "shape": [], "sha256": ""}}},
        UnsafeFileError,
        "own folder",
        id="a file elsewhere",
    ),
]


@pytest.mark.parametrize(("given", "error", "reason"), ANSWERS)
def test_an_answer_is_not_believed(tmp_path, given, error, reason):
    """Whatever the code puts in place of an answer is an error of ours, and nothing else is opened."""
    code = f"""
        import os
        folder = os.environ["TMPDIR"]
        open(os.path.join(folder, "answer.json"), "w").write({json.dumps(given)!r})
        os._exit(0)
        """
    torch.save({"w": torch.ones(1), "x": Acts(code)}, tmp_path / "x.pt")
    with pytest.raises(error, match=reason):
        read_checkpoint(tmp_path / "x.pt", unsafe_pickle=True)


def test_the_process_imports_nothing_from_the_working_directory_by_itself(tmp_path, monkeypatch):
    """A file there that bears the name of a module of Python isn't what the process imports."""
    (tmp_path / "json.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    torch.save(Plain(), tmp_path / "x.pt")
    assert read_checkpoint(tmp_path / "x.pt", unsafe_pickle=True).by_code
    assert not (tmp_path / "canary").exists()

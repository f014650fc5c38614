"""Whatever is wrong with an input: its exit code, one line with its name, nothing written, nothing run."""

import json
import os
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

# The samples are those of the readers' own tests.
sys.path.append(str(Path(__file__).parents[1] / "checkpoint"))

from checkpoint_samples import Canary, entry, safetensors_bytes
from hostile_samples import FORMATS, INPUTS_RUN_CODE, RUNS_CODE, deflated, weights

from bioconvert.checkpoint import read_checkpoint

NET = "torch.nn:Linear"
ARGS = '{"in_features": 5, "out_features": 4}'
HOSTILE_NAME = "evil\x1b[31m\x07<script>alert(1)\u202e"


def content(data, name="x.pt"):
    """Write a file of these bytes."""

    def write(folder):
        (folder / name).write_bytes(data)
        return folder / name

    return write


def cut(form, by=1):
    """Write a file of a format and cut its end off."""

    def write(folder):
        path = FORMATS[form](folder)
        os.truncate(path, path.stat().st_size - by)
        return path

    return write


def header(fields, data=b"1234"):
    """Write a safetensors file of any header."""
    return content(safetensors_bytes(fields, data), "x.safetensors")


def index(weight_map):
    """Write an index of shards beside one shard."""

    def write(folder):
        safetensors.torch.save_file({"a": torch.ones(1)}, folder / "one.safetensors")
        (folder / "x.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
        return folder / "x.safetensors.index.json"

    return write


def linked_shard(folder):
    """Let a shard be a link to a file elsewhere."""
    (folder / "elsewhere").mkdir()
    safetensors.torch.save_file({"a": torch.ones(1)}, folder / "elsewhere" / "one.safetensors")
    (folder / "in").mkdir()
    (folder / "in" / "one.safetensors").symlink_to(folder / "elsewhere" / "one.safetensors")
    (folder / "in" / "x.safetensors.index.json").write_text('{"weight_map": {"a": "one.safetensors"}}')
    return folder / "in" / "x.safetensors.index.json"


def pipe(folder):
    """Make a pipe that nobody writes to."""
    os.mkfifo(folder / "x.pt")
    return folder / "x.pt"


def folder_without_weights(folder):
    """Make a folder with a config alone."""
    (folder / "x").mkdir()
    (folder / "x" / "config.json").write_text("{}")
    return folder / "x"


def stride_0(folder):
    """Claim 10¹² values."""
    torch.save({"a": torch.zeros(1).expand(10**12)}, folder / "x.pt")
    return folder / "x.pt"


def scripted(folder):
    """Write the entries of a TorchScript program."""
    return deflated(folder / "x.pt", {"x/data.pkl": b"", "x/constants.pkl": b"", "x/code/a.py": b""})


def named(name):
    """Write an odd file name with a cut file under it."""

    def write(folder):
        (folder / name).write_bytes(b"\x80\x02")
        return folder / name

    return write


DAMAGED = {
    "empty": content(b""),
    "web page": content(b"<!DOCTYPE html><html><script>x</script>"),
    "LFS pointer": content(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
    "zeros": content(bytes(4096)),
    "noise": content(b"\x8a\x11noise"),
    "pipe": pipe,
    "/dev/zero": lambda folder: Path("/dev/zero"),
    "no weights": folder_without_weights,
    "TorchScript": scripted,
    "other zip": lambda folder: deflated(folder / "x.pt", {"a/b": b"c"}),
    "Keras": lambda folder: deflated(folder / "x.pt", {"config.json": b"{}", "model.weights.h5": b""}),
    "GGUF": content(b"GGUF\x03\0\0\0", "x.gguf"),
    "HDF5": content(b"\x89HDF\r\n\x1a\n", "x.h5"),
    "ONNX": content(b"\x08\x08\x12\x07pytorch\x1a\x052.0.0", "x.onnx"),
    "TensorFlow": content(bytes(40) + b"\x57\xfb\x80\x8b\x24\x75\x47\xdb", "x.index"),
    "TFLite": content(b"\x1c\0\0\0TFL3\x14\0", "x.tflite"),
    **{f"cut {form}": cut(form) for form in FORMATS},
    "duplicate keys": header('{"a":' + json.dumps(entry()) + ',"a":' + json.dumps(entry()) + "}"),
    "overlap": header({"a": entry(), "b": entry(offsets=(2, 6))}, b"123456"),
    "hole": header({"a": entry(offsets=(1, 5))}, b"12345"),
    "tail": header({"a": entry()}, b"12345"),
    "overflow": header({"a": entry(shape=(1 << 62, 1 << 62))}),
    "0 × 2⁶²": header({"a": entry(shape=(0, 1 << 62), offsets=(0, 0))}, b""),
    "bad dtype": header({"a": entry("F33")}),
    "not UTF-8": header(b'{"\xff":1}'),
    "header of 2⁶³": content((1 << 63).to_bytes(8, "little") + b"{}", "x.safetensors"),
    "parent in the index": index({"a": "../one.safetensors"}),
    "absolute in the index": index({"a": "/etc/passwd"}),
    "missing shard": index({"a": "one.safetensors", "b": "two.safetensors"}),
    "index against headers": index({"a": "one.safetensors", "b": "one.safetensors"}),
    "linked shard": linked_shard,
    "zip bomb": lambda folder: deflated(
        folder / "x.pt", {"x/data.pkl": b"\x80\x02}.", "x/0": bytes(90 << 20)}
    ),
    "stride-0 bomb": stride_0,
    "name with escapes": named(HOSTILE_NAME),
    "name of 200 letters": named("n" * 200 + ".pt"),
    **{
        f"code in {form}": lambda folder, form=form: RUNS_CODE[form](folder, Canary(folder / "canary"))
        for form in RUNS_CODE
    },
}
"""How an input is written that no command may take, by what is wrong with it."""


def check_refusal(ran, path, *, code=3):
    """Check the exit code, and that one plain line names the file."""
    assert ran.code == code, ran.err
    lines = [line for line in ran.err.splitlines() if not line.endswith("…")]
    assert len(lines) == 1, ran.err
    assert lines[0].startswith("error: ")
    # The file itself, or a shard beside it that is the one with the fault.
    shards = {path, *path.parent.glob("*.safetensors"), *path.parent.glob("*.bin")}
    assert any(file.name.partition("\x1b")[0] in lines[0] for file in shards)
    assert "Traceback" not in ran.err
    assert "weights_only" not in ran.err
    assert "\x1b" not in ran.err + ran.out
    assert "\u202e" not in ran.err + ran.out


@pytest.fixture
def place(tmp_path):
    """Give a folder for the inputs, apart from the working directory."""
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


@pytest.mark.parametrize("what", DAMAGED)
class TestEveryDamage:
    def test_inspect_refuses_it(self, bioconvert, place, what):
        """Looking at it is an error of exit code 3."""
        path = DAMAGED[what](place)
        check_refusal(bioconvert("inspect", path), path)
        assert not (place / "canary").exists()

    def test_convert_refuses_it_and_leaves_the_target_as_it_was(self, bioconvert, place, tmp_path, what):
        """Converting it is an error of exit code 3; no target appears, and an old one stays."""
        path = DAMAGED[what](place)
        out, old = tmp_path / "out", tmp_path / "old"
        old.mkdir()
        (old / "kept").write_text("as it was")
        for target, more in ((out, ()), (old, ("--overwrite",))):
            ran = bioconvert(
                "convert", path, "--rules", "yat", "--arch", NET, "--arch-args", ARGS, "--out", target, *more
            )
            check_refusal(ran, path)
        assert not out.exists()
        assert [file.name for file in old.iterdir()] == ["kept"]
        assert not (place / "canary").exists()


@pytest.mark.parametrize(
    "what", ["code in zip", "code in distributed", "cut zip", "web page", "stride-0 bomb"]
)
@pytest.mark.parametrize("command", ["plan", "import nmn", "import dyna", "diff"])
def test_every_other_command_that_reads_refuses_it_too(bioconvert, place, tmp_path, command, what):
    """No command reads with less care than another."""
    path = DAMAGED[what](place)
    more = {
        "plan": (path, "--rules", "yat", "--arch", NET, "--arch-args", ARGS),
        "diff": (path, path),
    }.get(command, (path, "--out", tmp_path / "out"))
    check_refusal(bioconvert(*command.split(), *more), path)
    assert not (tmp_path / "out").exists()
    assert not (place / "canary").exists()


@pytest.mark.parametrize("option", ["--inputs", "--calibration"])
@pytest.mark.parametrize("form", INPUTS_RUN_CODE)
def test_sample_inputs_that_would_run_code_are_refused(bioconvert, place, tmp_path, form, option):
    """A file of inputs is read with the same care as a checkpoint."""
    path = INPUTS_RUN_CODE[form](place, Canary(place / "canary"))
    safetensors.torch.save_file(
        {"weight": torch.ones(4, 5), "bias": torch.ones(4)}, tmp_path / "good.safetensors"
    )
    asked = ("--rules", "yat", "--arch", NET, "--arch-args", ARGS, "--out", tmp_path / "out", option, path)
    ran = bioconvert("convert", tmp_path / "good.safetensors", *asked)
    check_refusal(ran, path)
    assert not (tmp_path / "out").exists()
    assert not (place / "canary").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "what", ["code in zip", "code in Lightning", "empty", "/dev/zero", "pipe", "cut safetensors"]
)
def test_a_process_of_its_own_ends_with_the_same(process, place, tmp_path, what):
    """Run as a user runs it, the command ends with exit code 3 and one line."""
    path = DAMAGED[what](place)
    check_refusal(process("convert", path, "--rules", "yat", "--arch", NET, "--out", tmp_path / "out"), path)
    assert not (tmp_path / "out").exists()
    assert not (place / "canary").exists()


NAMES = [
    pytest.param("\x1b]0;gone\x07", id="escapes"),
    pytest.param("<script>alert(1)</script>", id="markup"),
    pytest.param("[red]x[/red]", id="markup of rich"),
    pytest.param("n" * 10_000, id="10,000 characters"),
    pytest.param("a\nb\rc", id="line breaks"),
    pytest.param("\u202eabc", id="turned round"),
]


@pytest.mark.parametrize("name", NAMES)
class TestNames:
    def test_inspect_shows_a_name_without_obeying_it(self, bioconvert, place, name):
        """A terminal gets no control character from a name, and JSON gets the name as it is."""
        safetensors.torch.save_file({name: torch.ones(1)}, place / "x.safetensors")
        shown = bioconvert("inspect", place / "x.safetensors")
        assert shown.code == 0
        assert not {"\x1b", "\x07", "\r", "\u202e"} & set(shown.out + shown.err)
        listed = bioconvert("inspect", place / "x.safetensors", "--json").document["tensors"]
        assert [tensor["name"] for tensor in listed] == [name]

    def test_an_error_about_a_name_is_one_short_line(self, bioconvert, place, tmp_path, name):
        """A name that fits no model is reported without obeying it and not at full length."""
        safetensors.torch.save_file({name: torch.ones(1)}, place / "x.safetensors")
        asked = ("--rules", "yat", "--arch", NET, "--arch-args", ARGS, "--out", tmp_path / "out")
        ran = bioconvert("convert", place / "x.safetensors", *asked)
        check_refusal(ran, place / "x.safetensors", code=2)
        assert len(ran.err) < 2000
        assert not (tmp_path / "out").exists()


def test_a_choice_of_weights_reaches_the_reader(bioconvert, place):
    """--weights takes one of several state dicts, and a wrong key is a mistake that names the right ones."""
    torch.save({"model": {"a": torch.ones(1)}, "ema": weights()}, place / "x.pt")
    found = bioconvert("inspect", place / "x.pt", "--weights", "ema", "--json")
    assert {tensor["name"] for tensor in found.document["tensors"]} == set(weights())
    wrong = bioconvert("inspect", place / "x.pt", "--weights", "emo")
    check_refusal(wrong, place / "x.pt", code=2)
    assert "Did you mean 'ema'?" in wrong.err


def test_weights_for_torch_are_written_where_they_are_asked_for(bioconvert, place, tmp_path):
    """--format pt writes model.pt with the rest of a training dict; otherwise that is named as left out."""
    state = {"weight": torch.ones(4, 5), "bias": torch.ones(4)}
    torch.save({"epoch": 3, "state_dict": state}, place / "x.pt")
    asked = ("convert", place / "x.pt", "--rules", "plastic", "--arch", NET, "--arch-args", ARGS, "--out")
    assert bioconvert(*asked, tmp_path / "pt", "--format", "pt").code == 0
    assert torch.load(tmp_path / "pt" / "model.pt")["epoch"] == 3
    assert bioconvert("verify", tmp_path / "pt").code == 0
    plain = bioconvert(*asked, tmp_path / "st")
    assert "only the weights are kept, and not epoch; --format pt keeps all" in plain.err
    assert (tmp_path / "st" / "model.safetensors").exists()
    wrong = bioconvert(*asked, tmp_path / "no", "--format", "onnx")
    assert (wrong.code, "safetensors or pt, not 'onnx'" in wrong.err) == (2, True)
    assert not (tmp_path / "no").exists()


ODD = {
    torch.float32: [0x7FC00001, 0x7F800001, 0xFFC12345, 0x7F800000, 0xFF800000, 0x80000000, 1, 0x3F800000],
    torch.float16: [0x7E01, 0x7C01, 0xFE55, 0x7C00, 0xFC00, 0x8000, 1, 0x3C00],
    torch.bfloat16: [0x7FC1, 0x7F81, 0xFFC5, 0x7F80, 0xFF80, 0x8000, 1, 0x3F80],
}
"""Bits of quiet and signalling NaN with payloads, infinities, minus zero, the least number, and one."""


@pytest.mark.parametrize("written", ["safetensors", "pt"])
@pytest.mark.parametrize("dtype", ODD, ids=str)
def test_values_that_are_no_numbers_keep_every_bit(bioconvert, place, tmp_path, dtype, written):
    """NaN with its payload, infinity and minus zero go through a conversion bit by bit."""
    bits = {torch.float32: torch.uint32}.get(dtype, torch.uint16)
    state = {"weight": torch.tensor([ODD[dtype]], dtype=bits).view(dtype), "bias": torch.ones(1, dtype=dtype)}
    torch.save(state, place / "x.pt")
    arch = ("--arch", NET, "--arch-args", '{"in_features": 8, "out_features": 1}')
    asked = ("--rules", "plastic", "--out", tmp_path / "out", "--format", written)
    ran = bioconvert("convert", place / "x.pt", *arch, *asked)
    assert ran.code == 0, ran.err
    found = read_checkpoint(tmp_path / "out").tensors["weight"]
    assert found.dtype == dtype
    assert found.view(bits).tolist() == [ODD[dtype]]


@pytest.mark.slow
def test_the_flag_lets_a_whole_model_be_converted(bioconvert, place, tmp_path):
    """A pickled model is refused, and converted and shown with the flag."""
    torch.save(torch.nn.Linear(5, 4), place / "x.pt")
    asked = ("--rules", "plastic", "--arch", NET, "--arch-args", ARGS, "--out", tmp_path / "out")
    check_refusal(bioconvert("convert", place / "x.pt", *asked), place / "x.pt")
    ran = bioconvert("convert", place / "x.pt", *asked, "--unsafe-pickle")
    assert ran.code == 0, ran.err
    assert "process of its own" in ran.err
    shown = bioconvert("inspect", place / "x.pt", "--unsafe-pickle", "--json")
    assert {tensor["name"] for tensor in shown.document["tensors"]} == {"weight", "bias"}

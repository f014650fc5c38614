"""Small files that ask for absurd amounts of memory or time are refused within 512 MiB and five seconds."""

import json
import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoint_samples import rewrite_zip, safetensors_bytes
from hostile_samples import LEGACY, deflated, export, weights

from bioconvert.checkpoint.formats.nesting import KEYS

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are those of POSIX")

MILLION = 1_000_000
PICKLE_OF_NOTHING = b"\x80\x02}."
MEASURED = """
import json, resource, sys
from pathlib import Path
from bioconvert.checkpoint import import_torchvision, read_checkpoint
from bioconvert.cli.inputs import read_tensors
from bioconvert.core.errors import CheckpointError
import numpy
MOST = 512 << 20
# What the libraries themselves hold counts as nothing; the kernel ends what goes beyond memory or time.
held = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_DATA, (held + MOST, held + MOST))
for line in sys.stdin:
    kind, path = json.loads(line)
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    resource.setrlimit(resource.RLIMIT_CPU, (int(used) + 6, resource.RLIM_INFINITY))
    try:
        (read_tensors if kind == "inputs" else read_checkpoint)(Path(path))
        said = None
    except CheckpointError as error:
        said = [type(error).__name__, str(error)]
    print(json.dumps(said), flush=True)
"""


def zip_bomb(folder):
    """Pack 600 MiB of zeros."""
    path = folder / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("x/data.pkl", PICKLE_OF_NOTHING)
        archive.writestr("x/data/0", bytes(600 << 20))
    return path


def lying_zip_bomb(folder):
    """Pack 600 MiB of zeros and claim that there are ten bytes."""
    path = zip_bomb(folder)
    content = path.read_bytes().replace(struct.pack("<L", 600 << 20), struct.pack("<L", 10))
    path.write_bytes(content)
    return path


def stride_0(**how):
    """Expand one value to 10¹² values."""

    def write(folder):
        torch.save({"a": torch.zeros(1).expand(10**12)}, folder / "x.pt", **how)
        return folder / "x.pt"

    return write


def stride_0_in_program(folder):
    """Let the table of an exported program claim 10¹² values."""

    def edit(name, content):
        claim = content.replace(b'[{"as_int": 3}]', b'[{"as_int": 1000000000000}]')
        return (
            claim.replace(b'[{"as_int": 1}]', b'[{"as_int": 0}]') if name.endswith("config.json") else content
        )

    rewrite_zip(export(folder / "whole.pt2"), folder / "x.pt2", edit)
    return folder / "x.pt2"


def with_pickle(pickle, **how):
    """Put another pickle into a checkpoint."""

    def write(folder):
        torch.save(weights(), folder / "whole", **how)
        if how:
            content = (folder / "whole").read_bytes()
            head = content[: content.index(b"\x80\x02", content.index(b"type_sizes"))]
            (folder / "x.pt").write_bytes(head + pickle())
        else:
            rewrite_zip(
                folder / "whole",
                folder / "x.pt",
                lambda name, old: pickle() if name.endswith(".pkl") else old,
            )
        return folder / "x.pt"

    return write


def many_calls():
    """Give a pickle that makes a million dicts by one call each."""
    names = (b"X\x07\0\0\0%07dh\0)R" % number for number in range(MILLION))
    return b"\x80\x02ccollections\nOrderedDict\nq\0}(" + b"".join(names) + b"u."


def header_of_many(folder):
    """List a million tensors."""
    one = '"%07d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    text = "{" + ",".join(one % number for number in range(MILLION)) + "}"
    (folder / "x.safetensors").write_bytes(safetensors_bytes(text))
    return folder / "x.safetensors"


def header(text):
    """Write a header of any text."""

    def write(folder):
        (folder / "x.safetensors").write_bytes(safetensors_bytes(text()))
        return folder / "x.safetensors"

    return write


def index(text):
    """Write an index of any text."""

    def write(folder):
        (folder / "model.safetensors.index.json").write_text(text())
        return folder / "model.safetensors.index.json"

    return write


def many_entries(folder):
    """Let the end of a zip archive claim a list of 2³¹ bytes."""
    torch.save(weights(), folder / "x.pt")
    content = bytearray((folder / "x.pt").read_bytes())
    content[-10:-6] = struct.pack("<L", 1 << 31)
    (folder / "x.pt").write_bytes(content)
    return folder / "x.pt"


def sparse_file(folder):
    """Write a file that claims a terabyte and holds zeros."""
    path = folder / "x.pt"
    path.write_bytes(b"")
    os.truncate(path, 1 << 40)
    return path


def npz_bomb(folder):
    """Pack 600 MiB of zeros as an array."""
    np.savez_compressed(folder / "x.npz", np.zeros(600 << 20, dtype=np.uint8))
    return folder / "x.npz"


def npy_claim(folder):
    """Claim 10¹² values in the header of an array."""
    np.save(folder / "x.npy", np.zeros(1, dtype=np.float64))
    content = (folder / "x.npy").read_bytes().replace(b"(1,), }            ", b"(1000000000000,), }")
    (folder / "x.npy").write_bytes(content)
    return folder / "x.npy"


def npz_claim(folder):
    """The same within an archive."""
    return deflated(folder / "x.npz", {"a.npy": npy_claim(folder).read_bytes()})


def endless_line(folder):
    """Write a legacy pickle whose first name has no end."""
    with (folder / "x.pt").open("wb") as file:
        file.write(b"\x80\x02c")
        file.truncate(2 << 30)
    return folder / "x.pt"


def dicts_in_a_ring(folder):
    """Save a dict that is its own weights, under every key where they could be."""
    ring = {str(number): 0 for number in range(20_000)}
    ring.update(dict.fromkeys(KEYS, ring))
    torch.save(ring, folder / "x.pt")
    return folder / "x.pt"


def text_of_nested_lists():
    """Give a pickle that wants a text of forty lists, each of which holds the one before twice."""
    lists = b"".join(b"]q" + bytes([n + 1, 104, n]) + b"ah" + bytes([n]) + b"a" for n in range(40))
    return b"\x80\x02ctorch.torch_version\nTorchVersion\nq\xff]q\x00" + lists + b"h\xffh\x28\x85R."


BOMBS = {
    "zip bomb": zip_bomb,
    "zip bomb that lies": lying_zip_bomb,
    "stride 0, zip": stride_0(),
    "stride 0, legacy": stride_0(**LEGACY),
    "stride 0, exported program": stride_0_in_program,
    "10⁶ tensors, safetensors": header_of_many,
    "10⁶ calls, zip": with_pickle(many_calls),
    "10⁶ calls, legacy": with_pickle(many_calls, **LEGACY),
    "lists, zip": with_pickle(lambda: b"\x80\x02" + b"]" * (30 << 20)),
    "marks, zip": with_pickle(lambda: b"\x80\x02" + b"(" * (30 << 20)),
    "lists, legacy": with_pickle(lambda: b"\x80\x02" + b"]" * (30 << 20), **LEGACY),
    "text of 4 GiB, legacy": with_pickle(lambda: b"\x80\x02X\xff\xff\xff\xff", **LEGACY),
    "bytearray, zip": with_pickle(
        lambda: b"\x80\x02c__builtin__\nbytearray\n\x8a\x07" + b"\0\0\0\0\0\x10\0\x85R."
    ),
    "line without an end, legacy": endless_line,
    "dicts that hold one another": dicts_in_a_ring,
    "text of nested lists": with_pickle(text_of_nested_lists),
    "lists in a header": header(lambda: '{"a":[' + "[]," * (30 << 20) + "[]]}"),
    "numbers in a header": header(lambda: '{"a":[' + "1000," * (18 << 20) + "1]}"),
    "depth in a header": header(lambda: '{"a":' * (10 << 20)),
    "10⁶ names in an index": index(
        lambda: '{"weight_map":{' + ",".join(f'"{n}":"a"' for n in range(MILLION + 1)) + "}}"
    ),
    "lists in an index": index(lambda: '{"weight_map":[' + "[]," * (20 << 20) + "[]]}"),
    "entries of a zip": many_entries,
    "a terabyte of nothing": sparse_file,
}
INPUT_BOMBS = {
    "npz bomb": npz_bomb,
    "npy of 10¹²": npy_claim,
    "npz of 10¹²": npz_claim,
    "zip bomb as inputs": zip_bomb,
    "stride 0 as inputs": stride_0(),
}


@pytest.fixture(scope="module")
def refusals(tmp_path_factory):
    """Read every bomb in one process that may take 512 MiB, and five seconds for each."""
    folder = tmp_path_factory.mktemp("bombs")
    asked = []
    for kind, bombs in (("checkpoint", BOMBS), ("inputs", INPUT_BOMBS)):
        for number, make in enumerate(bombs.values()):
            place = folder / f"{kind}{number}"
            place.mkdir()
            asked.append((kind, str(make(place))))
    done = subprocess.run(
        [sys.executable, "-c", MEASURED],
        input="\n".join(json.dumps(each) for each in asked),
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    names = [*BOMBS, *INPUT_BOMBS]
    assert len(found) == len(names), f"{names[len(found)]} ended the process: {done.stderr[-500:]}"
    return {name: (path, said) for name, (_, path), said in zip(names, asked, found, strict=True)}


@pytest.mark.slow
@pytest.mark.parametrize("name", [*BOMBS, *INPUT_BOMBS])
def test_a_bomb_is_refused_in_one_line(refusals, name):
    """A file that asks for more than any checkpoint needs is an error of one line, within memory and time."""
    path, said = refusals[name]
    assert said is not None, "it was read"
    assert Path(path).name in said[1]
    assert "\n" not in said[1]

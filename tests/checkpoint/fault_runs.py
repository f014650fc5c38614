"""Runs of the writer that are killed or failed on purpose, and what must hold after each."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import fault_table
import folder_writer
import pytest

from bioconvert.checkpoint.folders.verifying import verify_folder
from bioconvert.checkpoint.output.staging import Staging


def contents(folder):
    """Give the bytes of every file in a folder; ``None`` where it is absent."""
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else None


class Writer:
    """A process that makes children which write folders."""

    def __init__(self):
        self._server = subprocess.Popen(
            [sys.executable, folder_writer.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()

    def make(self, arguments):
        """Make a child, which waits; give its process id."""
        self._say(json.dumps(arguments))
        return int(self._server.stdout.readline())

    def go(self, kill_after=None):
        """Let the child begin, to be killed after some seconds."""
        self._say("" if kill_after is None else str(kill_after))

    def end(self):
        """Wait for its end; give its exit status, negative for a signal."""
        return int(self._server.stdout.readline())

    def _say(self, line):
        self._server.stdin.write(line + "\n")
        self._server.stdin.flush()


class Runs(Writer):
    """Writes one folder again and again.

    Args:
        place: an empty folder to work in.
        sizes: number of bytes of each tensor.
        before: whether there is an old folder to be replaced.
        journal: whether finished files are put on record.
        swap: whether the system can exchange two folders in one step.
        shard_size: bytes of tensors in a file.
    """

    def __init__(self, place, sizes, *, before=True, journal=True, swap=True, shard_size=4000):
        self.place, self.target = Path(place), Path(place) / "out"
        self.options = {"overwrite": before, "journal": journal, "shard_size": shard_size, "swap": swap}
        self.sources = [
            make_source(self.place / name, sizes, seed) for seed, name in enumerate(("old", "new"))
        ]
        self.states = {}
        for name, source in zip(("old", "new"), self.sources, strict=True):
            folder_writer.write(source, self.place / name / "out", shard_size=shard_size, journal=False)
            self.states[name] = contents(self.place / name / "out")
        self.before = "old" if before else "absent"
        self.allowed = {self.before, "new"} | (set() if swap else {"absent"})
        self.states["absent"] = None
        self.reset()
        super().__init__()

    def reset(self):
        """Let things be as before the run."""
        shutil.rmtree(self.target, ignore_errors=True)
        shutil.rmtree(Staging(self.target).place, ignore_errors=True)
        if self.before == "old":
            shutil.copytree(self.place / "old" / "out", self.target)

    def arguments(self, **options):
        """Give what a child is to write."""
        return {"source": str(self.sources[1]), "target": str(self.target), **self.options, **options}

    def start(self, **options):
        """Make a child, which waits; give its process id."""
        return self.make(self.arguments(**options))

    def run(self, **options):
        """Run a child to its end; give its exit status."""
        self.start(**options)
        self.go()
        return self.end()

    def traced(self, *words, **options):
        """Run a child under strace; give its exit status and strace's lines."""
        pid = self.start(**options)
        log = self.place / "strace.log"
        tracer = subprocess.Popen(
            ["strace", "-f", "-p", str(pid), "-o", str(log), *words], stderr=subprocess.PIPE, text=True
        )
        said = tracer.stderr.readline()
        if "attached" not in said:
            tracer.kill()
        self.go()
        code = self.end()
        tracer.communicate()
        if "attached" not in said:
            pytest.skip(f"strace can't attach: {said}")
        return code, log.read_text().splitlines()

    def check(self, kind, what):
        """Check that nothing is lost and the work can be finished; count and give how the fault ended.

        Args:
            kind: the row of the table of faults.
            what: the fault, for the text of a failure.
        """
        try:
            ended = self._checked(what)
        except AssertionError:
            fault_table.record(kind, "lost")
            raise
        fault_table.record(kind, ended)
        return ended

    def _checked(self, what):
        found = contents(self.target)
        state = next((name for name, files in self.states.items() if files == found), None)
        assert state in self.allowed, f"{what}: the target is neither as it was nor complete"
        assert found is None or verify_folder(self.target) == [], what
        left = Staging(self.target).leftover() is not None
        if state != "new" or left:
            assert self.run(resume=left) == 0, f"{what}: can't be finished"
            assert not Staging(self.target).place.exists(), f"{what}: something is left"
        assert contents(self.target) == self.states["new"], f"{what}: the finished folder differs"
        return "resumed" if left else "complete" if state == "new" else "done again"


def make_source(folder, sizes, seed):
    """Write a safetensors file with tensors of random bytes, and a file beside it."""
    import random

    folder.mkdir()
    path = folder / "model.safetensors"
    position, fields = 0, {}
    for number, size in enumerate(sizes):
        fields[f"t{number}"] = {"dtype": "U8", "shape": [size], "data_offsets": [position, position + size]}
        position += size
    head = json.dumps(fields).encode()
    head += b" " * (-len(head) % 8)
    path.write_bytes(len(head).to_bytes(8, "little") + head + random.Random(seed).randbytes(position))
    (folder / "config.json").write_text(json.dumps({"seed": seed}))
    return path


def calls_in(lines):
    """Count the system calls in the lines of strace, by name."""
    counts = {}
    for line in lines:
        found = re.match(r"(?:\d+ +)?(\w+)\(", line)
        if found:
            counts[found[1]] = counts.get(found[1], 0) + 1
    return counts

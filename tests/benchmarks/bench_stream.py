"""Converting a checkpoint bigger than memory: memory, speed beside dd, continuing after a kill."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .big_checkpoint import ARCH, HIDDEN, WIDTH, make, pairs_for
from .harness import Bar, Figure, Result

GIB = 26.0
QUICK_GIB = 3.0
LARGEST = WIDTH * HIDDEN * 2
SPARE = 64 << 20
RULES = """
version: 1
name: towers
rules:
  - name: layers
    match: {type: Linear}
    replace: {with: YatLinear}
"""
_BLOCK = 1 << 20


def run(*, quick: bool = False) -> Result:
    """Convert a large checkpoint, once from beginning to end and once killed at half."""
    with _folder() as folder:
        pairs = pairs_for(int((QUICK_GIB if quick else GIB) * 2**30))
        size = make(folder / "source", pairs)
        (folder / "rules.yaml").write_text(RULES)
        make(folder / "small", 1)
        baseline = _Command(folder, "small", "small-out", 1).finish().peak
        dd = _dd(folder / "dd", size)
        whole = _Command(folder, "source", "whole", pairs).finish()
        expected = _digests(folder / "whole")
        shutil.rmtree(folder / "whole")
        half = _Command(folder, "source", "half", pairs).kill_at(size // 2)
        resumed = _Command.resuming(folder, "half").finish()
        same = _digests(folder / "half") == expected
    most = baseline + 3 * LARGEST + SPARE
    figures = (
        Figure("checkpoint", size / 2**30, "GiB"),
        Figure("peak memory", whole.peak / 2**20, "MiB", Bar("<=", most / 2**20)),
        Figure("peak memory above a small conversion's", (whole.peak - baseline) / 2**20, "MiB"),
        Figure("speed / that of dd conv=fsync", dd / whole.seconds, "x", Bar(">=", 0.6)),
        Figure("dd conv=fsync", size / dd / 2**20, "MiB/s"),
        Figure("conversion", size / whole.seconds / 2**20, "MiB/s"),
        Figure("killed after", half.seconds, "s"),
        Figure("continued in", resumed.seconds, "s", Bar("<=", whole.seconds)),
        Figure("continued: the same files", float(same), "(1 = yes)", Bar(">=", 1)),
    )
    note = "the source is sparse: reading it takes no disk, writing the result takes all of it"
    return Result("stream", (), figures, (note,))


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-stream-") as name:
        yield Path(name)


class _Command:
    """A conversion in a process of its own, whose memory and time are watched."""

    def __init__(self, folder: Path, source: str, out: str, pairs: int):
        model = ("--arch", ARCH, "--arch-args", json.dumps({"pairs": pairs}))
        files = ("convert", source, "--out", out, "--shard-size", "2GiB")
        self._begin(folder, out, [*files, *model, "--rules", "rules.yaml", "--stream"])

    @classmethod
    def resuming(cls, folder: Path, out: str) -> "_Command":
        """Continue what was killed."""
        command = object.__new__(cls)
        command._begin(folder, out, ["resume", out])
        return command

    def _begin(self, folder: Path, out: str, arguments: list[str]) -> None:
        self.peak, self.seconds = 0, 0.0
        self._out, self._staged = folder / out, folder / f".{out}.bioconvert-partial" / "folder"
        environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
        self._started = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bioconvert", *arguments],
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def finish(self) -> "_Command":
        """Wait for the end."""
        while self._process.poll() is None:
            self._watch()
        assert self._process.stderr is not None
        said = self._process.stderr.read().decode()
        self._process.stderr.close()
        if self._process.returncode:
            raise RuntimeError(f"the conversion failed: {said}")
        return self

    def kill_at(self, size: int) -> "_Command":
        """Kill it once so many bytes are written."""
        while self._written() < size and self._process.poll() is None:
            self._watch()
        self._process.kill()
        self._process.wait()
        assert self._process.stderr is not None
        self._process.stderr.close()
        if self._out.exists():
            raise RuntimeError("the conversion was over before it was killed")
        return self

    def _watch(self) -> None:
        try:
            status = Path(f"/proc/{self._process.pid}/status").read_text()
        except OSError:
            status = ""
        for line in status.splitlines():
            if line.startswith("VmHWM"):
                self.peak = max(self.peak, int(line.split()[1]) << 10)
        self.seconds = time.perf_counter() - self._started
        time.sleep(0.02)

    def _written(self) -> int:
        if not self._staged.exists():
            return 0
        return sum(file.stat().st_size for file in self._staged.glob("*.safetensors"))


def _dd(path: Path, size: int) -> float:
    started = time.perf_counter()
    subprocess.run(
        ["dd", "if=/dev/zero", f"of={path}", "bs=1M", f"count={size // _BLOCK}", "conv=fsync"],
        check=True,
        capture_output=True,
    )
    taken = time.perf_counter() - started
    path.unlink()
    return taken


def _digests(folder: Path) -> dict[str, str]:
    found = {}
    for file in sorted(folder.iterdir()):
        digest = hashlib.sha256()
        with file.open("rb") as handle:
            while block := handle.read(_BLOCK):
                digest.update(block)
        found[file.name] = digest.hexdigest()
    return found

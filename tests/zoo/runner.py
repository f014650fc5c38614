"""Checks many models, each in a process of its own, so that none can harm another."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from .entry import Entry
from .result import Result

_PACKAGE = __package__ or "zoo"
_ROOT = Path(__file__).resolve().parents[_PACKAGE.count(".") + 1]
_LAST_WORDS = 300

Told = Callable[[Result], None]


def check_all(entries: Sequence[Entry], *, jobs: int, timeout: float, memory: float, told: Told) -> None:
    """Check models, some at a time, and tell of each result as it comes.

    Args:
        entries: the models.
        jobs: how many processes at a time.
        timeout: seconds that one model may take.
        memory: GiB that one process may hold.
        told: called with each result.
    """
    with ThreadPoolExecutor(jobs) as pool:
        running = [pool.submit(check_apart, entry, timeout=timeout, memory=memory) for entry in entries]
        try:
            for done in as_completed(running):
                told(done.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def check_apart(entry: Entry, *, timeout: float, memory: float) -> Result:
    """Check one model in a process of its own; whatever becomes of the process, there is a result."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.json"
        command = [sys.executable, "-m", f"{_PACKAGE}.worker", entry.title, str(path), str(memory)]
        try:
            done = subprocess.run(
                command,
                cwd=_ROOT,
                env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": folder},
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Result.lost(entry.title, f"took more than {timeout:.0f} s", timeout)
        if path.exists():
            return Result.from_dict(json.loads(path.read_text(encoding="utf-8")))
    return Result.lost(entry.title, _ending(done), round(time.monotonic() - started, 1))


def _ending(done: subprocess.CompletedProcess[str]) -> str:
    words = done.stderr.strip().splitlines()
    last = words[-1][:_LAST_WORDS] if words else "without a word"
    return f"ended by signal {-done.returncode}" if done.returncode < 0 else f"ended: {last}"

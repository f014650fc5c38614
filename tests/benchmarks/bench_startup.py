"""The time until commands that need no model have answered, against Python and torch alone."""

import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from .harness import Bar, Contender, Figure, Result, alternate, ratio

SECONDS = 40.0
OURS = "bioconvert --help"
BARE, TORCH = "python -c pass", "python -c 'import torch'"
MOST_SECONDS = Bar("<=", 0.6)
NO_TORCH = Bar("<=", 0)
HELP = ("-m", "bioconvert", "--help")
LIGHT = ("doctor --help", "explain YatLinear", "rules list", "inspect {file}", "diff {file} {file}")
"""Other commands that need no torch."""


def run(*, quick: bool = False) -> Result:
    """Time the subprocesses and look for torch among the modules that the help imports."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.safetensors"
        save_file({"weight": np.zeros((64, 64), np.float32)}, file)
        others = {f"bioconvert {words.format(file='X')}": _words(words, file) for words in LIGHT}
        commands = {OURS: HELP, BARE: ("-c", "pass"), TORCH: ("-c", "import torch"), **others}
        contenders = [Contender(name, partial(_spawn, arguments)) for name, arguments in commands.items()]
        taken = alternate("start-up", contenders, budget=SECONDS, quick=quick)
    figures = (
        Figure(f"{OURS}: median", taken[OURS].median, "s", MOST_SECONDS),
        *(Figure(f"{name}: median", taken[name].median, "s", MOST_SECONDS) for name in others),
        Figure(f"{OURS}: torch imported", _torch_modules(), "modules", NO_TORCH),
        ratio(taken, OURS, BARE),
        ratio(taken, TORCH, OURS),
    )
    return Result("startup", tuple(taken.values()), figures)


def _words(words: str, file: Path) -> tuple[str, ...]:
    return ("-m", "bioconvert", *(word.format(file=file) for word in words.split()))


def _spawn(arguments: tuple[str, ...], _: object = None) -> subprocess.CompletedProcess[str]:
    # Bytecode is cached, as it is for a user: without it the source is compiled at every start.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=True
    )


def _torch_modules() -> int:
    """How many modules of torch the help imports, by Python's own account."""
    account = _spawn(("-X", "importtime", *HELP)).stderr
    names = [
        line.rpartition("|")[2].strip() for line in account.splitlines() if line.startswith("import time:")
    ]
    if not any(name.startswith("bioconvert") for name in names):
        raise RuntimeError("the account of imports must name the package's own modules")
    return sum(name.partition(".")[0] == "torch" for name in names)

"""The time until the command's help is on the screen, against Python and torch alone."""

import os
import subprocess
import sys
from functools import partial

from .harness import Bar, Contender, Figure, Result, alternate, ratio

SECONDS = 40.0
OURS = "bioconvert --help"
BARE, TORCH = "python -c pass", "python -c 'import torch'"
MOST_SECONDS = Bar("<=", 0.6)
NO_TORCH = Bar("<=", 0)
HELP = ("-m", "bioconvert", "--help")


def run(*, quick: bool = False) -> Result:
    """Time the subprocesses and look for torch among the modules that the help imports."""
    commands = {OURS: HELP, BARE: ("-c", "pass"), TORCH: ("-c", "import torch")}
    contenders = [Contender(name, partial(_spawn, arguments)) for name, arguments in commands.items()]
    taken = alternate("start-up", contenders, budget=SECONDS, quick=quick)
    figures = (
        Figure(f"{OURS}: median", taken[OURS].median, "s", MOST_SECONDS),
        Figure(f"{OURS}: torch imported", _torch_modules(), "modules", NO_TORCH),
        ratio(taken, OURS, BARE),
        ratio(taken, TORCH, OURS),
    )
    return Result("startup", tuple(taken.values()), figures)


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

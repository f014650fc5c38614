"""Finding the experiments: every module of the package that isn't part of the harness is one."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from types import ModuleType

_PACKAGE = __package__.rpartition(".")[0]
_FOLDER = Path(__file__).parents[1]


def names() -> list[str]:
    """Give the names of all experiments."""
    found = (module.name for module in pkgutil.iter_modules([str(_FOLDER)]) if not module.ispkg)
    return sorted(name.replace("_", "-") for name in found if not name.startswith("_"))


def experiment(name: str) -> ModuleType:
    """Import an experiment."""
    return importlib.import_module(f"{_PACKAGE}.{name.replace('-', '_')}")


def question(module: ModuleType) -> str:
    """Give the first sentence of an experiment's docstring."""
    return (module.__doc__ or "").strip().splitlines()[0]

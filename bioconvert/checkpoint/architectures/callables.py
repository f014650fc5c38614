"""Models of anyone's own code, by ``package.module:callable``."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import sysconfig
import typing
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

from torch import nn

from bioconvert.checkpoint.architectures.kind import Args, Candidate, Kind
from bioconvert.core.errors import ArchitectureError
from bioconvert.core.suggest import hint
from bioconvert.graph.classes import original_class

_INSTALLED = ("stdlib", "platstdlib", "purelib", "platlib")


def _build(name: str, args: Args) -> nn.Module:
    made = _find(name)(**args)
    if not isinstance(made, nn.Module):
        raise ArchitectureError(f"{name} must return an nn.Module, but gave a {type(made).__name__}")
    return made


def _find(name: str) -> Any:
    module_name, _, attributes = name.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ArchitectureError(
            f"{name}: there is no module named {error.name!r}; is its folder on PYTHONPATH?"
        ) from None
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            known = [
                each for each, value in vars(found).items() if callable(value) and not each.startswith("_")
            ]
            raise ArchitectureError(f"{name}: {module_name} has no {attribute!r}. {hint(attribute, known)}")
        found = getattr(found, attribute)
    if not callable(found):
        raise ArchitectureError(
            f"{name}: must be a class or function that gives the model, not a {type(found).__name__}"
        )
    return found


def _vet(name: str, folder: Path | None) -> None:
    """Let a manifest call model classes, and functions of the user's own code, but not anything installed.

    A manifest comes with a downloaded folder, and ``os:system`` and ``torch:load`` are callables with
    arguments too. Code in that folder isn't even imported, though the working directory may be there.
    """
    top = name.partition(":")[0].partition(".")[0]
    if folder is not None and _lies_in(top, folder.resolve()):
        raise ArchitectureError(
            f"the manifest wants {name} called, whose code lies in {folder} itself; what comes with a "
            "checkpoint isn't run: look at it, and if you trust it, pass it as factory="
        )
    found = _find(name)
    if isinstance(found, type) and issubclass(found, nn.Module):
        return
    if isinstance(found, FunctionType) and (_is_users(found) or _says_module(found)):
        return
    raise ArchitectureError(
        f"the manifest wants {name} called, which isn't a model class and, being part of an installed "
        "package, doesn't declare that it returns an nn.Module; if you trust it, pass it as factory="
    )


def _lies_in(module: str, folder: Path) -> bool:
    """Say whether a module that isn't imported yet would be found in a folder."""
    if module in sys.modules:
        return False
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return False
    places = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or ())]
    return any(folder in Path(place).resolve().parents for place in places if place)


def _is_users(function: FunctionType) -> bool:
    """Say whether a function is neither of the standard library, nor installed, nor ours."""
    file = Path(function.__code__.co_filename).resolve()
    installed = {Path(sysconfig.get_path(name)).resolve() for name in _INSTALLED}
    ours = Path(__file__).resolve().parents[2]
    return file.exists() and not any(folder in file.parents for folder in (*installed, ours))


def _says_module(function: FunctionType) -> bool:
    try:
        returned = typing.get_type_hints(function).get("return")
    except Exception:  # noqa: BLE001 - annotations may name what is imported for type checking only
        return False
    return isinstance(returned, type) and issubclass(returned, nn.Module)


def _candidates(model: nn.Module) -> Iterator[Candidate]:
    cls = original_class(model)
    if cls.__module__ == "__main__" or "<" in cls.__qualname__:
        return
    name = f"{cls.__module__}:{cls.__qualname__}"
    if _find(name) is cls and not _required(cls):
        yield name, {}


def _required(cls: type) -> list[str]:
    empty, variadic = (
        inspect.Parameter.empty,
        {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD},
    )
    parameters = inspect.signature(cls).parameters.values()
    return [each.name for each in parameters if each.default is empty and each.kind not in variadic]


CALLABLE = Kind("callable", "", _build, _candidates, _vet)

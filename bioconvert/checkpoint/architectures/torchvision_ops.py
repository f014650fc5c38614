"""Importing torchvision, and what rests on it, where its compiled operators don't load.

A torchvision whose binary doesn't match the installed torch fails to import at the operator
``torchvision::nms``, although the models themselves need none of its operators. timm and parts of
transformers fail with it.
"""

from __future__ import annotations

import importlib
import logging
import sys
from functools import lru_cache
from importlib.util import find_spec
from types import ModuleType

import torch

_log = logging.getLogger("bioconvert")
_OPERATORS = ("nms", "qnms")
_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def import_torchvision() -> ModuleType:
    """Import torchvision; where its operators are missing, declare them and try again, with a logged warning.

    Raises:
        ModuleNotFoundError: it isn't installed.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    _log.warning(
        "torchvision's operators don't match this torch: models work, non-maximum suppression doesn't"
    )
    _declare_operators()
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    return importlib.import_module("torchvision")


def import_with_torchvision(name: str) -> ModuleType:
    """Import a package that imports torchvision if it is there, such as timm.

    Raises:
        ModuleNotFoundError: the package isn't installed.
    """
    if find_spec("torchvision") is not None:
        import_torchvision()
    return importlib.import_module(name)


@lru_cache(maxsize=1)
def _declare_operators() -> torch.library.Library:
    """Declare the operators that nobody has declared; the library must outlive the process's use of them."""
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in _OPERATORS:
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}{_SIGNATURE}")  # type: ignore[no-untyped-call]
    return library

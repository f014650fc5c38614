"""Turns an existing PyTorch model, in place, into a biologically inspired one.

``convert`` changes a model, ``plan`` says what would change, ``revert`` undoes it, ``drift`` measures it,
``save`` and ``load`` keep it on disk. Names are imported when first used, so that the command line starts
without torch.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING

from bioconvert.core.lazy import lazy_exports
from bioconvert.version import __version__

if TYPE_CHECKING:
    from bioconvert import compat as compat
    from bioconvert import functional as functional
    from bioconvert import integrations as integrations
    from bioconvert import layers as layers
    from bioconvert.api import (
        Organism,
        Plasticity,
        convert,
        drift,
        finalize,
        load,
        morph_step,
        plan,
        revert,
        save,
    )
    from bioconvert.compat.bio_transformations import BioConfig, BioConverter
    from bioconvert.core.errors import BioconvertError, ConversionError, RuleError
    from bioconvert.ruleset import RuleSet

__all__ = [
    "BioConfig",
    "BioConverter",
    "BioconvertError",
    "ConversionError",
    "Organism",
    "Plasticity",
    "RuleError",
    "RuleSet",
    "__version__",
    "compat",
    "convert",
    "drift",
    "finalize",
    "functional",
    "integrations",
    "layers",
    "load",
    "morph_step",
    "plan",
    "revert",
    "save",
]

logging.getLogger("bioconvert").addHandler(logging.NullHandler())

_FUNCTIONS = (
    "Organism",
    "Plasticity",
    "convert",
    "drift",
    "finalize",
    "load",
    "morph_step",
    "plan",
    "revert",
    "save",
)
_PACKAGES = ("compat", "functional", "integrations", "layers")
_export = lazy_exports(
    __name__,
    {
        **dict.fromkeys(_FUNCTIONS, "bioconvert.api"),
        **dict.fromkeys(("BioconvertError", "ConversionError", "RuleError"), "bioconvert.core.errors"),
        **dict.fromkeys(("BioConfig", "BioConverter"), "bioconvert.compat.bio_transformations"),
        "RuleSet": "bioconvert.ruleset",
    },
)


def __getattr__(name: str) -> object:
    return importlib.import_module(f"bioconvert.{name}") if name in _PACKAGES else _export(name)


def __dir__() -> list[str]:
    return sorted(__all__)

"""Reading the checkpoints of the systems that this one descends from, one package a system."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bioconvert.compat import bio_transformations as bio_transformations
    from bioconvert.compat import dyna as dyna
    from bioconvert.compat import nmn as nmn

__all__ = ["bio_transformations", "dyna", "nmn"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted(__all__)

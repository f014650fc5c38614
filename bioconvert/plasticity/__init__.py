"""Mechanisms of plasticity, one file each, and what drives them; importing this package registers them.

Nothing here imports torch before a model is at hand, so that rule files are checked without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bioconvert.core.lazy import lazy_exports
from bioconvert.plasticity import fuzzy_lr as fuzzy_lr

if TYPE_CHECKING:
    from bioconvert.plasticity.plasticity import Plasticity

__all__ = ["Plasticity"]

__getattr__ = lazy_exports(__name__, {"Plasticity": "bioconvert.plasticity.plasticity"})


def __dir__() -> list[str]:
    return sorted(__all__)

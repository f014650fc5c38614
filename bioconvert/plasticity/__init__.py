"""Mechanisms of plasticity, one file each, and what drives them; importing this package registers them.

Nothing here imports torch before a model is at hand, so that rule files are checked without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bioconvert.core.lazy import lazy_exports
from bioconvert.plasticity import by_hand as by_hand
from bioconvert.plasticity import crystallize as crystallize
from bioconvert.plasticity import dale as dale
from bioconvert.plasticity import fuzzy_lr as fuzzy_lr
from bioconvert.plasticity import l1 as l1
from bioconvert.plasticity import rejuvenate as rejuvenate
from bioconvert.plasticity import synaptic_scaling as synaptic_scaling
from bioconvert.plasticity import volume_lr as volume_lr
from bioconvert.plasticity import weight_splitting as weight_splitting

if TYPE_CHECKING:
    from bioconvert.plasticity.l1 import l1_penalty
    from bioconvert.plasticity.plasticity import Plasticity
    from bioconvert.plasticity.unit_splitting import SplitUnits, dale_split

__all__ = ["Plasticity", "SplitUnits", "dale_split", "l1_penalty"]

__getattr__ = lazy_exports(
    __name__,
    {
        "Plasticity": "bioconvert.plasticity.plasticity",
        "l1_penalty": "bioconvert.plasticity.l1",
        **dict.fromkeys(("SplitUnits", "dale_split"), "bioconvert.plasticity.unit_splitting"),
    },
)


def __dir__() -> list[str]:
    return sorted(__all__)

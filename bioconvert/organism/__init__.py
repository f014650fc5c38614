"""Models whose blocks grow and die; importing this package registers what ``wrap:`` does.

Nothing here imports torch before a model is at hand, so that rule files are checked without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bioconvert.core.lazy import lazy_exports
from bioconvert.organism import wrap as wrap

if TYPE_CHECKING:
    from bioconvert.organism.branch import Branch
    from bioconvert.organism.node import Node
    from bioconvert.organism.organism import Organism

__all__ = ["Branch", "Node", "Organism"]

__getattr__ = lazy_exports(
    __name__,
    {
        "Branch": "bioconvert.organism.branch",
        "Node": "bioconvert.organism.node",
        "Organism": "bioconvert.organism.organism",
    },
)


def __dir__() -> list[str]:
    return sorted(__all__)

"""Models and checkpoints of nmn, the reference implementation of the Yat layers, as ours.

nmn itself need not be installed. ``read`` takes a state dict, ``load_layer`` that of one layer,
``from_module`` a live model, and ``rename`` gives a state dict the names that a model of our layers has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bioconvert.core.lazy import lazy_exports

if TYPE_CHECKING:
    from bioconvert.compat.nmn.attention import NmnAttention
    from bioconvert.compat.nmn.generations import Generation
    from bioconvert.compat.nmn.layer import Layer
    from bioconvert.compat.nmn.layers_only import LayersOnly
    from bioconvert.compat.nmn.live import describe_module, from_module, holds_nmn
    from bioconvert.compat.nmn.reading import Imported, load_layer, read
    from bioconvert.compat.nmn.renaming import describe_ours, rename

__all__ = [
    "Generation",
    "Imported",
    "Layer",
    "LayersOnly",
    "NmnAttention",
    "describe_module",
    "describe_ours",
    "from_module",
    "holds_nmn",
    "load_layer",
    "read",
    "rename",
]

_PACKAGE = "bioconvert.compat.nmn"
__getattr__ = lazy_exports(
    __name__,
    {
        "Generation": f"{_PACKAGE}.generations",
        "Layer": f"{_PACKAGE}.layer",
        "LayersOnly": f"{_PACKAGE}.layers_only",
        "NmnAttention": f"{_PACKAGE}.attention",
        **dict.fromkeys(("describe_module", "from_module", "holds_nmn"), f"{_PACKAGE}.live"),
        **dict.fromkeys(("Imported", "load_layer", "read"), f"{_PACKAGE}.reading"),
        **dict.fromkeys(("describe_ours", "rename"), f"{_PACKAGE}.renaming"),
    },
)


def __dir__() -> list[str]:
    return sorted(__all__)

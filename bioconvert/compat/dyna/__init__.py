"""Checkpoints of dyna, the reference implementation of layers whose weights come from a context, as ours.

dyna itself need not be installed. ``read`` takes a state dict, ``load_layer`` that of one layer, and
``prepare`` brings a state dict into the form that a model of our layers has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bioconvert.core.lazy import lazy_exports

if TYPE_CHECKING:
    from bioconvert.compat.dyna.layer import Layer
    from bioconvert.compat.dyna.layers_only import LayersOnly
    from bioconvert.compat.dyna.models import describe, prepare
    from bioconvert.compat.dyna.reading import Imported, load_layer, read

__all__ = ["Imported", "Layer", "LayersOnly", "describe", "load_layer", "prepare", "read"]

_PACKAGE = "bioconvert.compat.dyna"
__getattr__ = lazy_exports(
    __name__,
    {
        "Layer": f"{_PACKAGE}.layer",
        "LayersOnly": f"{_PACKAGE}.layers_only",
        **dict.fromkeys(("describe", "prepare"), f"{_PACKAGE}.models"),
        **dict.fromkeys(("Imported", "load_layer", "read"), f"{_PACKAGE}.reading"),
    },
)


def __dir__() -> list[str]:
    return sorted(__all__)

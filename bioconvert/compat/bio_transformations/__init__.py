"""The converter of the Bio Transformations package, by its own names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bioconvert.core.lazy import lazy_exports

if TYPE_CHECKING:
    from bioconvert.compat.bio_transformations.bio_config import BioConfig
    from bioconvert.compat.bio_transformations.bio_converter import BioConverter

__all__ = ["BioConfig", "BioConverter"]

__getattr__ = lazy_exports(
    __name__,
    {
        "BioConfig": "bioconvert.compat.bio_transformations.bio_config",
        "BioConverter": "bioconvert.compat.bio_transformations.bio_converter",
    },
)


def __dir__() -> list[str]:
    return sorted(__all__)

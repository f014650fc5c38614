"""The Yat product as functions on tensors, without modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bioconvert.core.lazy import lazy_exports

if TYPE_CHECKING:
    from bioconvert.functional.conv import yat_conv1d, yat_conv2d, yat_conv3d
    from bioconvert.functional.elementwise import yat
    from bioconvert.functional.linear import yat_linear

__all__ = ["yat", "yat_conv1d", "yat_conv2d", "yat_conv3d", "yat_linear"]

__getattr__ = lazy_exports(
    __name__,
    {
        "yat": "bioconvert.functional.elementwise",
        "yat_linear": "bioconvert.functional.linear",
        **dict.fromkeys(("yat_conv1d", "yat_conv2d", "yat_conv3d"), "bioconvert.functional.conv"),
    },
)


def __dir__() -> list[str]:
    return sorted(__all__)

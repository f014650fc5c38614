"""The layers: plain modules, usable without the rest. Imported when first used, and torch with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bioconvert.core.lazy import lazy_exports

if TYPE_CHECKING:
    from bioconvert.layers.dropped import Dropped
    from bioconvert.layers.yat_conv import YatConv1d, YatConv2d, YatConv3d
    from bioconvert.layers.yat_linear import YatLinear, YatNMN
    from bioconvert.layers.yat_options import yat_attributes, yat_parameters

__all__ = [
    "Dropped",
    "YatConv1d",
    "YatConv2d",
    "YatConv3d",
    "YatLinear",
    "YatNMN",
    "yat_attributes",
    "yat_parameters",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "Dropped": "bioconvert.layers.dropped",
        **dict.fromkeys(("YatConv1d", "YatConv2d", "YatConv3d"), "bioconvert.layers.yat_conv"),
        **dict.fromkeys(("YatLinear", "YatNMN"), "bioconvert.layers.yat_linear"),
        **dict.fromkeys(("yat_attributes", "yat_parameters"), "bioconvert.layers.yat_options"),
    },
)


def __dir__() -> list[str]:
    return sorted(__all__)

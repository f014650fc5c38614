"""The Yat product as functions on tensors, without modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bioconvert.core.lazy import lazy_exports

if TYPE_CHECKING:
    from bioconvert.functional.attention import yat_attention
    from bioconvert.functional.conv import yat_conv1d, yat_conv2d, yat_conv3d
    from bioconvert.functional.conv_transpose import (
        yat_conv_transpose1d,
        yat_conv_transpose2d,
        yat_conv_transpose3d,
    )
    from bioconvert.functional.elementwise import yat
    from bioconvert.functional.linear import yat_linear
    from bioconvert.functional.squashers import soft_tanh, softer_sigmoid, softermax
    from bioconvert.functional.triton_switch import use_triton

__all__ = [
    "use_triton",
    "soft_tanh",
    "softer_sigmoid",
    "softermax",
    "yat",
    "yat_attention",
    "yat_conv1d",
    "yat_conv2d",
    "yat_conv3d",
    "yat_conv_transpose1d",
    "yat_conv_transpose2d",
    "yat_conv_transpose3d",
    "yat_linear",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "yat": "bioconvert.functional.elementwise",
        "yat_attention": "bioconvert.functional.attention",
        "yat_linear": "bioconvert.functional.linear",
        "use_triton": "bioconvert.functional.triton_switch",
        **dict.fromkeys(("soft_tanh", "softer_sigmoid", "softermax"), "bioconvert.functional.squashers"),
        **dict.fromkeys(("yat_conv1d", "yat_conv2d", "yat_conv3d"), "bioconvert.functional.conv"),
        **dict.fromkeys(
            ("yat_conv_transpose1d", "yat_conv_transpose2d", "yat_conv_transpose3d"),
            "bioconvert.functional.conv_transpose",
        ),
    },
)


def __dir__() -> list[str]:
    return sorted(__all__)

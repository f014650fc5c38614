"""The Yat product, signal functions and sketches as functions on tensors, without modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bioconvert.core.lazy import lazy_exports

if TYPE_CHECKING:
    from bioconvert.functional.attention import yat_attention
    from bioconvert.functional.composer_delta import compose_delta
    from bioconvert.functional.composer_mobius import compose_mobius
    from bioconvert.functional.compressor import compress_signal
    from bioconvert.functional.conv import yat_conv1d, yat_conv2d, yat_conv3d
    from bioconvert.functional.conv_transpose import (
        yat_conv_transpose1d,
        yat_conv_transpose2d,
        yat_conv_transpose3d,
    )
    from bioconvert.functional.dynamic_conv import dynamic_conv1d, dynamic_conv2d, dynamic_conv3d
    from bioconvert.functional.dynamic_conv_transpose import (
        dynamic_conv_transpose1d,
        dynamic_conv_transpose2d,
        dynamic_conv_transpose3d,
    )
    from bioconvert.functional.dynamic_linear import dynamic_linear
    from bioconvert.functional.elementwise import yat
    from bioconvert.functional.linear import yat_linear
    from bioconvert.functional.noise import noisein, noiseover
    from bioconvert.functional.parametric_siglog import siglog_parametric
    from bioconvert.functional.proportional_error import log_proportional_error
    from bioconvert.functional.signals import backward_gradient_normalization, siglog
    from bioconvert.functional.spectral_sketch import (
        compact_spectral_multiplier,
        count_sketch,
        draw_sketch,
        estimated_product,
    )
    from bioconvert.functional.squashers import soft_tanh, softer_sigmoid, softermax
    from bioconvert.functional.triton_switch import use_triton

__all__ = [
    "backward_gradient_normalization",
    "compose_delta",
    "compose_mobius",
    "compact_spectral_multiplier",
    "compress_signal",
    "count_sketch",
    "draw_sketch",
    "dynamic_conv1d",
    "dynamic_conv2d",
    "dynamic_conv3d",
    "dynamic_conv_transpose1d",
    "dynamic_conv_transpose2d",
    "dynamic_conv_transpose3d",
    "dynamic_linear",
    "estimated_product",
    "log_proportional_error",
    "noisein",
    "noiseover",
    "siglog",
    "siglog_parametric",
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
        "compose_delta": "bioconvert.functional.composer_delta",
        "compose_mobius": "bioconvert.functional.composer_mobius",
        "yat_attention": "bioconvert.functional.attention",
        "yat_linear": "bioconvert.functional.linear",
        "use_triton": "bioconvert.functional.triton_switch",
        "dynamic_linear": "bioconvert.functional.dynamic_linear",
        **dict.fromkeys(
            ("dynamic_conv1d", "dynamic_conv2d", "dynamic_conv3d"), "bioconvert.functional.dynamic_conv"
        ),
        **dict.fromkeys(
            ("dynamic_conv_transpose1d", "dynamic_conv_transpose2d", "dynamic_conv_transpose3d"),
            "bioconvert.functional.dynamic_conv_transpose",
        ),
        "compress_signal": "bioconvert.functional.compressor",
        **dict.fromkeys(
            ("compact_spectral_multiplier", "count_sketch", "draw_sketch", "estimated_product"),
            "bioconvert.functional.spectral_sketch",
        ),
        "log_proportional_error": "bioconvert.functional.proportional_error",
        **dict.fromkeys(("noisein", "noiseover"), "bioconvert.functional.noise"),
        "siglog_parametric": "bioconvert.functional.parametric_siglog",
        **dict.fromkeys(("backward_gradient_normalization", "siglog"), "bioconvert.functional.signals"),
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

"""The layers: plain modules, usable without the rest. Imported when first used, and torch with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bioconvert.core.lazy import lazy_exports

if TYPE_CHECKING:
    from bioconvert.layers.backward_gradient_norm import BackwardGradientNorm
    from bioconvert.layers.compressor import SignalStabilizationCompressor
    from bioconvert.layers.context import (
        CarryArgument,
        CarryEncoder,
        CarryInput,
        CarryOutput,
        CloseFrame,
        ContextError,
        OfferOutput,
        OpenFrame,
        carried,
    )
    from bioconvert.layers.count_sketch import CompactSpectralMultiplier, CountSketch
    from bioconvert.layers.dann_linear import DannLinear
    from bioconvert.layers.dropped import Dropped
    from bioconvert.layers.dynamic_conv import DynamicConv1d, DynamicConv2d, DynamicConv3d
    from bioconvert.layers.dynamic_conv2d_delta import DynamicConv2dDelta
    from bioconvert.layers.dynamic_conv2d_mobius import DynamicConv2dMobius
    from bioconvert.layers.dynamic_conv_transpose import (
        DynamicConvTranspose1d,
        DynamicConvTranspose2d,
        DynamicConvTranspose3d,
    )
    from bioconvert.layers.dynamic_linear import DynamicLinear
    from bioconvert.layers.dynamic_options import dynamic_attributes, dynamic_tensors, encoder_tensors
    from bioconvert.layers.gate_init import balanced_alpha
    from bioconvert.layers.initialisation import initialise
    from bioconvert.layers.noise_layers import NoiseIn, NoiseOver
    from bioconvert.layers.signal_insertions import CompressesOutput, NormalizesGradient
    from bioconvert.layers.squashers import Softermax, SofterSigmoid, SoftTanh
    from bioconvert.layers.starting_values import FreshValues, fresh_values
    from bioconvert.layers.takes_context import TakesContext, takes_keyword
    from bioconvert.layers.tensor_composer_delta import TensorComposerDelta, WeightsLib2DDelta
    from bioconvert.layers.tensor_composer_mobius import TensorComposerMobius, WeightsLib2DMobius
    from bioconvert.layers.yat_attention_options import yat_attention_attributes, yat_attention_parameters
    from bioconvert.layers.yat_cells import YatGRUCell, YatLSTMCell, YatRNNCell
    from bioconvert.layers.yat_conv import YatConv1d, YatConv2d, YatConv3d
    from bioconvert.layers.yat_conv_transpose import (
        YatConvTranspose1d,
        YatConvTranspose2d,
        YatConvTranspose3d,
    )
    from bioconvert.layers.yat_embedding import YatEmbedding
    from bioconvert.layers.yat_gated import (
        GATE_TENSORS,
        gate_attributes,
        gate_parameters,
        gate_suffixes,
        initial_gates,
        input_mean_square,
    )
    from bioconvert.layers.yat_linear import YatLinear, YatNMN
    from bioconvert.layers.yat_multihead_attention import YatMultiheadAttention
    from bioconvert.layers.yat_options import yat_attributes, yat_parameters
    from bioconvert.layers.yat_recurrent import YatGRU, YatLSTM, YatRNN

__all__ = [
    "GATE_TENSORS",
    "BackwardGradientNorm",
    "CompactSpectralMultiplier",
    "CompressesOutput",
    "CountSketch",
    "DannLinear",
    "Dropped",
    "DynamicConv1d",
    "DynamicConv2d",
    "DynamicConv2dDelta",
    "DynamicConv2dMobius",
    "DynamicConv3d",
    "DynamicConvTranspose1d",
    "DynamicConvTranspose2d",
    "DynamicConvTranspose3d",
    "DynamicLinear",
    "FreshValues",
    "NoiseIn",
    "NoiseOver",
    "NormalizesGradient",
    "SignalStabilizationCompressor",
    "SoftTanh",
    "SofterSigmoid",
    "Softermax",
    "TensorComposerDelta",
    "TensorComposerMobius",
    "WeightsLib2DDelta",
    "WeightsLib2DMobius",
    "YatConv1d",
    "YatConv2d",
    "YatConv3d",
    "YatConvTranspose1d",
    "YatConvTranspose2d",
    "YatConvTranspose3d",
    "YatEmbedding",
    "YatGRU",
    "YatGRUCell",
    "YatLSTM",
    "YatLSTMCell",
    "YatLinear",
    "YatMultiheadAttention",
    "YatNMN",
    "YatRNN",
    "YatRNNCell",
    "balanced_alpha",
    "dynamic_attributes",
    "dynamic_tensors",
    "encoder_tensors",
    "fresh_values",
    "gate_attributes",
    "gate_parameters",
    "gate_suffixes",
    "initial_gates",
    "initialise",
    "input_mean_square",
    "yat_attention_attributes",
    "yat_attention_parameters",
    "yat_attributes",
    "yat_parameters",
    "CarryArgument",
    "CarryEncoder",
    "CarryInput",
    "CarryOutput",
    "CloseFrame",
    "ContextError",
    "OfferOutput",
    "OpenFrame",
    "carried",
    "TakesContext",
    "takes_keyword",
]

__getattr__ = lazy_exports(
    __name__,
    {
        **dict.fromkeys(
            (
                "CarryArgument",
                "CarryEncoder",
                "CarryInput",
                "CarryOutput",
                "CloseFrame",
                "ContextError",
                "OfferOutput",
                "OpenFrame",
                "carried",
            ),
            "bioconvert.layers.context",
        ),
        **dict.fromkeys(("TakesContext", "takes_keyword"), "bioconvert.layers.takes_context"),
        "BackwardGradientNorm": "bioconvert.layers.backward_gradient_norm",
        "SignalStabilizationCompressor": "bioconvert.layers.compressor",
        **dict.fromkeys(("CompactSpectralMultiplier", "CountSketch"), "bioconvert.layers.count_sketch"),
        **dict.fromkeys(("CompressesOutput", "NormalizesGradient"), "bioconvert.layers.signal_insertions"),
        **dict.fromkeys(("NoiseIn", "NoiseOver"), "bioconvert.layers.noise_layers"),
        "DannLinear": "bioconvert.layers.dann_linear",
        "Dropped": "bioconvert.layers.dropped",
        "DynamicLinear": "bioconvert.layers.dynamic_linear",
        "DynamicConv2dDelta": "bioconvert.layers.dynamic_conv2d_delta",
        "DynamicConv2dMobius": "bioconvert.layers.dynamic_conv2d_mobius",
        **dict.fromkeys(
            ("TensorComposerDelta", "WeightsLib2DDelta"), "bioconvert.layers.tensor_composer_delta"
        ),
        **dict.fromkeys(
            ("TensorComposerMobius", "WeightsLib2DMobius"), "bioconvert.layers.tensor_composer_mobius"
        ),
        **dict.fromkeys(
            ("DynamicConv1d", "DynamicConv2d", "DynamicConv3d"), "bioconvert.layers.dynamic_conv"
        ),
        **dict.fromkeys(
            ("DynamicConvTranspose1d", "DynamicConvTranspose2d", "DynamicConvTranspose3d"),
            "bioconvert.layers.dynamic_conv_transpose",
        ),
        **dict.fromkeys(
            ("dynamic_attributes", "dynamic_tensors", "encoder_tensors"), "bioconvert.layers.dynamic_options"
        ),
        **dict.fromkeys(("FreshValues", "fresh_values"), "bioconvert.layers.starting_values"),
        "initialise": "bioconvert.layers.initialisation",
        "balanced_alpha": "bioconvert.layers.gate_init",
        "YatEmbedding": "bioconvert.layers.yat_embedding",
        **dict.fromkeys(("SoftTanh", "SofterSigmoid", "Softermax"), "bioconvert.layers.squashers"),
        **dict.fromkeys(("YatGRUCell", "YatLSTMCell", "YatRNNCell"), "bioconvert.layers.yat_cells"),
        **dict.fromkeys(("YatGRU", "YatLSTM", "YatRNN"), "bioconvert.layers.yat_recurrent"),
        **dict.fromkeys(
            (
                "GATE_TENSORS",
                "gate_attributes",
                "gate_parameters",
                "gate_suffixes",
                "initial_gates",
                "input_mean_square",
            ),
            "bioconvert.layers.yat_gated",
        ),
        **dict.fromkeys(("YatConv1d", "YatConv2d", "YatConv3d"), "bioconvert.layers.yat_conv"),
        **dict.fromkeys(
            ("YatConvTranspose1d", "YatConvTranspose2d", "YatConvTranspose3d"),
            "bioconvert.layers.yat_conv_transpose",
        ),
        **dict.fromkeys(("YatLinear", "YatNMN"), "bioconvert.layers.yat_linear"),
        "YatMultiheadAttention": "bioconvert.layers.yat_multihead_attention",
        **dict.fromkeys(
            ("yat_attention_attributes", "yat_attention_parameters"),
            "bioconvert.layers.yat_attention_options",
        ),
        **dict.fromkeys(("yat_attributes", "yat_parameters"), "bioconvert.layers.yat_options"),
    },
)


def __dir__() -> list[str]:
    return sorted(__all__)

"""The layers: plain modules, usable without the rest. Imported when first used, and torch with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bioconvert.core.lazy import lazy_exports

if TYPE_CHECKING:
    from bioconvert.layers.dann_linear import DannLinear
    from bioconvert.layers.dropped import Dropped
    from bioconvert.layers.gate_init import balanced_alpha
    from bioconvert.layers.initialisation import initialise
    from bioconvert.layers.squashers import Softermax, SofterSigmoid, SoftTanh
    from bioconvert.layers.starting_values import FreshValues, fresh_values
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
    "DannLinear",
    "Dropped",
    "FreshValues",
    "SoftTanh",
    "SofterSigmoid",
    "Softermax",
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
]

__getattr__ = lazy_exports(
    __name__,
    {
        "DannLinear": "bioconvert.layers.dann_linear",
        "Dropped": "bioconvert.layers.dropped",
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

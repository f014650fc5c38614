"""The layers of dyna: what their tensors are called, and what these don't tell."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from bioconvert import layers

CONTEXT = ("context_transform.weight", "context_transform.bias")
COMPOSER_CHILD = "weights_lib"
"""Name of the composer inside a convolution."""
PADDING_VALUE = "padding_dynamic_value"
STATIC_BIAS = "bias_static_buffer"
CONV_NAMES = (
    PADDING_VALUE,
    "offset_dynamic_value",
    "bias_dynamic_weights_lib",
    "bias_dynamic_conv",
    STATIC_BIAS,
)
PLAIN = "plain"
"""What the caller says of a module that is no layer of dyna."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A composer of dyna.

    Args:
        name: what it is called here.
        composer: our class of the composer alone.
        conv: our class of the convolution that holds one.
        dims: name of each tensor → its number of dimensions.
        untold: options that shapes don't tell.
    """

    name: str
    composer: str
    conv: str
    dims: Mapping[str, int]
    untold: tuple[str, ...]


DELTA = Kind(
    "Delta",
    "TensorComposerDelta",
    "DynamicConv2dDelta",
    {**dict(zip(CONTEXT, (2, 1), strict=True)), "weights": 7, "extras": 1},
    ("repulsion", "noise", "rank_noise", "similarity"),
)
MOBIUS = Kind(
    "Mobius",
    "TensorComposerMobius",
    "DynamicConv2dMobius",
    {
        **dict(zip(CONTEXT, (2, 1), strict=True)),
        "space_i": 5,
        "space_j": 5,
        "inversions": 5,
        "direct_G_Re": 4,
        "direct_G_Im": 4,
        "w_mix": 3,
        "projections": 5,
    },
    ("asymmetry",),
)
KINDS = (DELTA, MOBIUS)
COMPOSER_NAMES = frozenset(name for kind in KINDS for name in kind.dims)
OUR_CLASSES = tuple(name for kind in KINDS for name in (kind.composer, kind.conv))


@cache
def defaults_of(becomes: str) -> Mapping[str, object]:
    """Give the defaults of the constructor of one of our classes."""
    parameters = inspect.signature(getattr(layers, becomes)).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not each.empty}

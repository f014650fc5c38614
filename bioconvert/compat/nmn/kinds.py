"""The layer classes of nmn's two generations, what became of each, and the options that it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from bioconvert.compat.nmn.generations import Generation

Family = Literal["linear", "conv", "transposed", "embedding", "attention"]
Options = Mapping[str, object]

_WINDOWS: Options = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
_BIAS: Options = {"softplus_bias": False, "constant_bias": None, "constant_alpha": None}
_DROP: Options = {"drop_rate": 0.0}

_FIRST: Mapping[Family, Options] = {
    "linear": {"epsilon": 1e-4},
    "conv": {"epsilon": 1e-5, **_WINDOWS, "padding_mode": "zeros", **_DROP},
    "transposed": {"epsilon": 1e-5, **_WINDOWS, "output_padding": 0, **_DROP},
}
_SECOND: Mapping[Family, Options] = {
    "linear": {
        "epsilon": 1e-5,
        **_BIAS,
        "spherical": False,
        "weight_normalized": False,
        "freeze_kernel": False,
        "out_features": None,
    },
    "conv": {
        **_FIRST["conv"],
        **_BIAS,
        "weight_normalized": False,
        "out_channels": None,
    },
    "transposed": {**_FIRST["transposed"], **_BIAS},
    "embedding": {"epsilon": 1e-5, "constant_alpha": None, "spherical": False},
    "attention": {
        "epsilon": 1e-5,
        "constant_alpha": None,
        "num_heads": None,
        "dropout": 0.0,
        "normalize_qk": False,
        "scaled": True,
        "spherical": False,
    },
}
DEFAULTS: Mapping[Generation, Mapping[Family, Options]] = {"0.1": _FIRST, "0.3": _SECOND}
"""The constructor's defaults of the options that a layer's tensors may not tell, by generation and family."""

UNSCALED_BEFORE = (0, 2, 20)
"""The release from which on attention divides by √d, as our option ``scaled`` says."""

NO_DEFAULT = {"num_heads"}
"""Options that nmn's constructors insist on too."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A layer class of nmn.

    Args:
        name: its name in the second generation; the first ends those of convolutions with a small d.
        family: what it has in common with others.
        dims: dimensions of space; 0 where there are none.
        becomes: our class.
        renamed: names of its tensors that differ from ours.
    """

    name: str
    family: Family
    becomes: str
    dims: int = 0
    renamed: Mapping[str, str] = field(default_factory=dict)

    def generations(self) -> tuple[Generation, ...]:
        """Say which generations have this class."""
        return tuple(generation for generation, families in DEFAULTS.items() if self.family in families)


_EPSILON = {"epsilon_param": "raw_epsilon"}
KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("YatNMN", "linear", "YatLinear", renamed=_EPSILON),
        *(Kind(f"YatConv{n}D", "conv", f"YatConv{n}d", n, _EPSILON) for n in (1, 2, 3)),
        *(
            Kind(f"YatConvTranspose{n}D", "transposed", f"YatConvTranspose{n}d", n, _EPSILON)
            for n in (1, 2, 3)
        ),
        Kind("YatEmbed", "embedding", "YatEmbedding", renamed={"embedding": "weight"}),
        Kind("MultiHeadYatAttention", "attention", "YatMultiheadAttention"),
    )
}

OUR_CLASSES = frozenset(kind.becomes for kind in KINDS.values())

PROJECTIONS = ("q_proj", "k_proj", "v_proj")
"""Submodules of nmn's attention, whose weights one tensor of ours holds."""

PLAIN = "plain"
"""Said of a module that is no layer of nmn."""


def kind_named(name: str) -> Kind | None:
    """Find a class by its name in either generation."""
    return KINDS.get(name) or KINDS.get(name[:-1] + "D" if name.startswith("YatConv") else name)

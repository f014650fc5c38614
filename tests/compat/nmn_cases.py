"""The table of nmn's layers and options, for golden data and for comparing with a live nmn."""

import copy
from dataclasses import dataclass, field

import torch

TOLD = {
    "alpha",
    "bias",
    "kernel_bank_id",
    "kernel_bank_size",
    "learnable_epsilon",
    "mask",
    "scalar_bias",
    "tie_kernel_bank",
    "use_alpha",
    "use_dropconnect",
    "use_out_proj",
}
"""Options that tensors tell, that a drop rate says already, or that change nothing but the start."""


@dataclass(frozen=True)
class Case:
    """A layer of nmn.

    Args:
        name: of the case.
        kind: its class, by its name in the second generation.
        sizes: positional arguments.
        shape: of its input; of the query, for an embedding.
        options: keyword arguments; ``mask`` is the probability of a one.
    """

    name: str
    kind: str
    sizes: tuple
    shape: tuple
    options: dict = field(default_factory=dict)

    @property
    def said(self):
        """What a user has to say of the layer when its tensors are read."""
        told = TOLD | ({"weight_normalized"} if self.kind == "YatEmbed" else set())
        return {name: value for name, value in self.options.items() if name not in told} | {"defaults": True}


def _both(kind, sizes, shape, options):
    return [
        Case(f"{kind} {label}", kind, sizes, shape, given)
        for label, given in {"plain": {}, **options}.items()
    ]


_LINEAR = {"no bias": {"bias": False}, "no alpha": {"alpha": False}, "epsilon": {"epsilon": 0.05}}
_CONV = {
    "no bias": {"bias": False},
    "no alpha": {"use_alpha": False},
    "epsilon": {"epsilon": 0.05},
    "windows": {"stride": 2, "padding": 1, "dilation": 2},
    "mask": {"mask": 0.6},
    "dropconnect": {"use_dropconnect": True, "drop_rate": 0.4},
}
_PADDED = {
    "groups": {"groups": 2},
    "same": {"padding": "same"},
    "circular": {"padding": 1, "padding_mode": "circular"},
}
_NEW = {
    "softplus bias": {"softplus_bias": True},
    "scalar bias": {"scalar_bias": True},
    "scalar softplus bias": {"scalar_bias": True, "softplus_bias": True},
    "constant bias": {"constant_bias": 0.7},
    "constant alpha": {"constant_alpha": True},
    "alpha 2.5": {"constant_alpha": 2.5},
    "learnable epsilon": {"learnable_epsilon": True},
}
_BANK = {"tie_kernel_bank": True, "kernel_bank_size": 9}
_SPACES = {1: (7,), 2: (5, 4), 3: (3, 2, 3)}
_KERNELS = {1: 3, 2: 3, 3: 2}

FIRST = [
    *_both("YatNMN", (5, 3), (7, 5), _LINEAR),
    *(
        case
        for n, lengths in _SPACES.items()
        for case in _both(
            f"YatConv{n}D", (4, 6, _KERNELS[n]), (1, 4, *lengths), {**_CONV, **_PADDED} if n < 3 else {}
        )
    ),
    *(
        case
        for n, lengths in _SPACES.items()
        for case in _both(
            f"YatConvTranspose{n}D",
            (4, 6, _KERNELS[n]),
            (1, 4, *lengths),
            {**_CONV, "output padding": {"stride": 2, "output_padding": 1}} if n < 3 else {},
        )
    ),
]
"""Releases before 0.2.7; groups of their transposed convolutions fail when called."""

SECOND = [
    *FIRST,
    *_both(
        "YatNMN",
        (5, 3),
        (7, 5),
        {
            **_NEW,
            "spherical": {"spherical": True, "epsilon": 0.01},
            "weight-normalised": {"weight_normalized": True},
            "spherical, weight-normalised": {"spherical": True, "weight_normalized": True, "epsilon": 0.01},
            "frozen": {"freeze_kernel": True},
            "bank": {**_BANK, "kernel_bank_id": "linear"},
        },
    )[1:],
    *(
        case
        for n, lengths in _SPACES.items()
        for case in _both(
            f"YatConv{n}D",
            (4, 6, _KERNELS[n]),
            (1, 4, *lengths),
            {
                **_NEW,
                "weight-normalised": {"weight_normalized": True},
                "weight-normalised mask": {"weight_normalized": True, "mask": 0.6},
                "bank": {**_BANK, "kernel_bank_id": f"conv{n}"},
            }
            if n < 3
            else {"softplus bias": {"softplus_bias": True}},
        )[1:]
    ),
    *(
        case
        for n, lengths in _SPACES.items()
        for case in _both(
            f"YatConvTranspose{n}D",
            (4, 6, _KERNELS[n]),
            (1, 4, *lengths),
            {**_NEW, "groups": {"groups": 2}} if n < 3 else {},
        )[1:]
    ),
    *_both(
        "YatEmbed",
        (7, 5),
        (3, 5),
        {
            "no alpha": {"use_alpha": False},
            "constant alpha": {"constant_alpha": True},
            "spherical": {"spherical": True, "epsilon": 0.01},
            "weight-normalised": {"weight_normalized": True},
        },
    ),
    *(
        Case(
            f"MultiHeadYatAttention {name}",
            "MultiHeadYatAttention",
            (8, 2),
            (2, 6, 8),
            {"num_heads": 2, **given},
        )
        for name, given in {
            "plain": {},
            "no bias": {"bias": False},
            "no alpha": {"use_alpha": False},
            "constant alpha": {"constant_alpha": True},
            "normalize_qk": {"normalize_qk": True, "epsilon": 0.1},
            "spherical": {"spherical": True, "epsilon": 1e-6},
            "no out_proj": {"use_out_proj": False},
            "dropout": {"dropout": 0.1},
        }.items()
    ),
]
CASES = {"0.1": FIRST, "0.3": SECOND}

_MODULES = ("nmn.torch", "nmn.torch.layers", "nmn.torch.nmn", "nmn.torch.conv")
_SEEDS = 200
_EXACT = 2e-6


def find_class(kind):
    """Find a class of the installed nmn by its name in either generation; ``None`` where it has none."""
    import importlib

    for module in _MODULES:
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError:
            continue
        for name in (kind, kind[:-1] + "d"):
            if isinstance(getattr(found, name, None), type):
                return getattr(found, name)
    return None


def build(case, cls):
    """Build a layer of nmn with values that show in its output."""
    torch.manual_seed(1)
    options = {name: value for name, value in case.options.items() if name != "num_heads"}
    if "mask" in options:
        probe = cls(*case.sizes, **{name: value for name, value in options.items() if name != "mask"})
        options["mask"] = (torch.rand(probe.weight.shape) < options["mask"]).float()
    layer = cls(*case.sizes, **options).eval()
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if name.endswith("alpha"):
                parameter.fill_(1.3)
            elif name.endswith("epsilon_param"):
                parameter.fill_(-1.0)
            elif not case.options.get("weight_normalized"):
                parameter.copy_(torch.randn_like(parameter) * 0.6)
            else:
                parameter.mul_(1.7)
    return layer


def output(layer, x):
    """Give what a layer computes; of an embedding, how it scores queries."""
    with torch.no_grad():
        return layer.attend(x) if hasattr(layer, "attend") else layer(x)


def rounding(layer, x):
    """Give the error of nmn's fp32 against its fp64; ``None`` for a bank, which can't change its type."""
    if getattr(layer, "tie_kernel_bank", False):
        return None
    exact = copy.deepcopy(layer).double()
    if vars(exact).get("dtype") is not None:
        exact.dtype = torch.float64
    return relative_error(output(layer, x), output(exact, x.double()))


def sample(case, layer):
    """Draw an input on which nmn's own fp32 rounding is small."""
    for seed in range(_SEEDS):
        x = torch.randn(case.shape, generator=torch.Generator().manual_seed(seed))
        if (rounding(layer, x) or 0) < _EXACT:
            return x
    raise AssertionError(f"{case.name}: nmn rounds more than {_EXACT} off on every input tried")


def relative_error(y, expected):
    """Give the largest error over the largest output."""
    y, expected = y.detach().double(), expected.detach().double()
    return float((y - expected).abs().max() / expected.abs().max())

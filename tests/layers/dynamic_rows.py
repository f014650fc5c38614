"""The dynamic layers that the property suites run over."""

from __future__ import annotations

import torch
from torch import nn

from bioconvert.layers import (
    DynamicConv1d,
    DynamicConv2d,
    DynamicConv3d,
    DynamicConvTranspose1d,
    DynamicConvTranspose2d,
    DynamicConvTranspose3d,
    DynamicLinear,
)

SMALL = {"context_length": 3, "kernels": 2}

ROWS = {
    "linear": (lambda **o: DynamicLinear(4, 3, **SMALL, **o), nn.Linear, (5, 4)),
    "linear, no bias": (lambda **o: DynamicLinear(4, 3, bias=False, **SMALL, **o), nn.Linear, (5, 4)),
    "linear, tokens": (lambda **o: DynamicLinear(4, 3, **SMALL, **o), nn.Linear, (2, 6, 4)),
    "linear, vector": (lambda **o: DynamicLinear(4, 3, **SMALL, **o), nn.Linear, (4,)),
    "conv1d": (lambda **o: DynamicConv1d(4, 6, 3, padding=1, **SMALL, **o), nn.Conv1d, (2, 4, 7)),
    "conv1d, circular": (
        lambda **o: DynamicConv1d(4, 6, 3, padding=2, padding_mode="circular", **SMALL, **o),
        nn.Conv1d,
        (2, 4, 7),
    ),
    "conv2d": (lambda **o: DynamicConv2d(4, 6, 3, padding=1, **SMALL, **o), nn.Conv2d, (2, 4, 6, 5)),
    "conv2d, unbatched": (lambda **o: DynamicConv2d(4, 6, 3, **SMALL, **o), nn.Conv2d, (4, 6, 5)),
    "conv2d, pointwise": (lambda **o: DynamicConv2d(4, 6, 1, **SMALL, **o), nn.Conv2d, (2, 4, 3, 3)),
    "conv2d, grouped": (
        lambda **o: DynamicConv2d(4, 6, 3, stride=2, dilation=2, padding=2, groups=2, **SMALL, **o),
        nn.Conv2d,
        (2, 4, 6, 5),
    ),
    "conv2d, depthwise": (
        lambda **o: DynamicConv2d(4, 4, 3, groups=4, bias=False, **SMALL, **o),
        nn.Conv2d,
        (2, 4, 5, 5),
    ),
    "conv2d, reflect": (
        lambda **o: DynamicConv2d(4, 6, 3, padding=1, padding_mode="reflect", **SMALL, **o),
        nn.Conv2d,
        (2, 4, 5, 5),
    ),
    "conv2d, same": (
        lambda **o: DynamicConv2d(4, 6, 2, padding="same", **SMALL, **o),
        nn.Conv2d,
        (2, 4, 5, 4),
    ),
    "conv3d": (lambda **o: DynamicConv3d(2, 3, 2, padding=1, **SMALL, **o), nn.Conv3d, (2, 2, 3, 3, 3)),
    "transposed 1d": (
        lambda **o: DynamicConvTranspose1d(4, 6, 3, stride=2, **SMALL, **o),
        nn.ConvTranspose1d,
        (2, 4, 4),
    ),
    "transposed 2d": (
        lambda **o: DynamicConvTranspose2d(
            4, 6, 3, stride=2, padding=1, output_padding=1, groups=2, **SMALL, **o
        ),
        nn.ConvTranspose2d,
        (2, 4, 3, 3),
    ),
    "transposed 3d": (
        lambda **o: DynamicConvTranspose3d(2, 3, 2, dilation=2, **SMALL, **o),
        nn.ConvTranspose3d,
        (2, 2, 2, 2, 2),
    ),
}
"""Name → how to make the layer, the torch class it replaces, and the shape of an input."""


def made(name, *, dtype=torch.float32, moved=False, seed=0, **options):
    """Give a layer, in a type, with its gate at zero or anywhere, and an input for it."""
    torch.manual_seed(seed)
    make, _, shape = ROWS[name]
    layer = make(**options).to(dtype)
    if moved:
        with torch.no_grad():
            layer.gate.copy_(torch.randn(layer.gate.shape))
    return layer, torch.randn(shape, dtype=dtype)


def plain_twin(name, layer):
    """Give the torch layer on the same weight and bias."""
    kind = ROWS[name][1]
    twin = object.__new__(kind)
    nn.Module.__init__(twin)
    twin.__dict__.update({k: v for k, v in vars(layer).items() if not k.startswith("_")})
    if hasattr(layer, "_reversed_padding_repeated_twice"):
        twin._reversed_padding_repeated_twice = layer._reversed_padding_repeated_twice
    twin.register_parameter("weight", nn.Parameter(layer.weight.detach().clone()))
    bias = layer.bias
    twin.register_parameter("bias", None if bias is None else nn.Parameter(bias.detach().clone()))
    return twin

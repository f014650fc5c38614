"""Layers of many kinds, and how to train them, for the suites of the mechanisms of plasticity."""

from __future__ import annotations

import torch
from torch import nn

import bioconvert as bc
from bioconvert.layers import YatConv2d, YatConvTranspose2d, YatLinear

LAYERS = {
    "Linear": (lambda: nn.Linear(5, 4), (6, 5)),
    "Conv1d": (lambda: nn.Conv1d(3, 4, 3), (2, 3, 7)),
    "Conv2d": (lambda: nn.Conv2d(3, 4, 3), (2, 3, 5, 5)),
    "Conv2d, grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2), (2, 4, 5, 5)),
    "Conv2d, channels last": (
        lambda: nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last),
        (2, 3, 5, 5),
    ),
    "ConvTranspose2d, grouped": (lambda: nn.ConvTranspose2d(4, 6, 3, groups=2), (2, 4, 5, 5)),
    "YatLinear": (lambda: YatLinear(5, 4), (6, 5)),
    "YatConv2d": (lambda: YatConv2d(3, 4, 3), (2, 3, 5, 5)),
    "YatConvTranspose2d": (lambda: YatConvTranspose2d(3, 4, 3), (2, 3, 5, 5)),
}
"""Each with the shape of an input."""
OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.3),
    "SGD, momentum and decay": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.1),
}


def attach(*mechanisms, **match):
    """Give rules that attach mechanisms to what matches; to every linear layer and convolution by default."""
    return {
        "version": 1,
        "rules": [{"match": match or {"type": ["linear", "conv"]}, "attach": list(mechanisms)}],
    }


def made(name, seed=0):
    """Give a layer in a model, and inputs for it."""
    make, shape = LAYERS[name]
    torch.manual_seed(seed)
    return nn.Sequential(make()), torch.randn(shape)


def step(model, optimizer, x):
    """Make one step towards larger outputs, some of them negative."""
    optimizer.zero_grad()
    y = model(x)
    (y * torch.linspace(-1, 1, y.numel()).view(y.shape)).mean().backward()
    optimizer.step()


def bound(model, make, rules, *, seed=0):
    """Convert a model by rules and bind an optimizer; give model, optimizer and plasticity."""
    converted = bc.convert(model, rules)
    optimizer = make(converted.parameters())
    return converted, optimizer, bc.Plasticity(converted, seed=seed).bind(optimizer)

"""Are kernels made from a context of use where the meaning of an edge depends on the context?

Set-up: noisy pictures of stripes, upright or level, with a square in a random corner that is bright or dark.
The label is the orientation, and the square turns it around. One convolution with four kernels to mix, its
context the mean of its own input, then a ReLU, a mean over positions and a linear layer; beside it the same
network with a plain convolution, and one with a hidden layer behind the mean, both with so many channels that
they have as many parameters or a few more. 600 steps of Adam at 0.01, accuracy on 2,000 new pictures.

Bar: at least 95 % with the dynamic convolution, at most 80 % with the plain one.

What comes out of the plain network is a sum over places, of which none sees both the square and its stripes.
The hidden layer lifts that limit; what it reaches stands there for comparison.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from bioconvert.layers import DynamicConv2d

from .harness.findings import Bar, Finding, Settings

SEEDS = 3
SIDE, SQUARE = 16, 4
STEPS, BATCH, TEST = 600, 64, 2000
CHANNELS, LENGTH, HIDDEN = 8, 8, 16
DYNAMIC_BAR, STATIC_BAR = 95, 80


def run(settings: Settings) -> list[Finding]:
    """Train the three networks for each seed."""
    names = _networks()
    scores = {name: [_accuracy(name, seed) for seed in settings.each_seed] for name in names}
    counts = {name: float(_size(network)) for name, network in names.items()}
    return [
        Finding("accuracy, dynamic kernels, %", scores["dynamic"], Bar("≥", DYNAMIC_BAR)),
        Finding("accuracy, static kernels, %", scores["static"], Bar("≤", STATIC_BAR)),
        Finding("accuracy, static with a hidden layer, %", scores["hidden"]),
        Finding("parameters, static over dynamic", [counts["static"] / counts["dynamic"]], Bar("≥", 1)),
        Finding("parameters, hidden over dynamic", [counts["hidden"] / counts["dynamic"]], Bar("≥", 1)),
    ]


def _networks() -> dict[str, nn.Module]:
    """Make the networks, those with plain kernels as wide as the size of the first asks for."""
    dynamic = _network(DynamicConv2d(1, CHANNELS, 3, context_length=LENGTH), nn.Linear(CHANNELS, 1))
    return {
        "dynamic": dynamic,
        "static": _as_large(dynamic, lambda width: nn.Linear(width, 1)),
        "hidden": _as_large(
            dynamic,
            lambda width: nn.Sequential(nn.Linear(width, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1)),
        ),
    }


def _as_large(dynamic: nn.Module, head: Callable[[int], nn.Module]) -> nn.Module:
    """Give the narrowest network with plain kernels that has no fewer parameters."""
    widths = itertools.count(1)
    made = (_network(nn.Conv2d(1, width, 3), head(width)) for width in widths)
    return next(network for network in made if _size(network) >= _size(dynamic))


def _network(convolution: nn.Module, head: nn.Module) -> nn.Module:
    return nn.Sequential(convolution, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


def _size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _accuracy(name: str, seed: int) -> float:
    """Train a network and give its share of right answers, in percent."""
    torch.manual_seed(seed)
    network = _networks()[name]
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(STEPS):
        pictures, labels = _pictures(BATCH, generator)
        loss = F.binary_cross_entropy_with_logits(network(pictures)[:, 0], labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    pictures, labels = _pictures(TEST, generator)
    with torch.no_grad():
        right = (network(pictures)[:, 0] > 0) == (labels > 0)
    return 100 * right.double().mean().item()


def _pictures(count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Give pictures, [N, 1, side, side], and labels."""
    upright = torch.randint(2, (count,), generator=generator).bool()
    bright = torch.randint(2, (count,), generator=generator).bool()
    phase = torch.randint(4, (count, 1), generator=generator)
    stripes = ((torch.arange(SIDE) + phase) % 4 < 2).float() * 2 - 1
    pictures = stripes[:, None, :].expand(-1, SIDE, -1).clone()
    pictures[~upright] = pictures[~upright].transpose(1, 2)
    pictures += 0.3 * torch.randn(pictures.shape, generator=generator)
    corners = torch.randint(2, (count, 2), generator=generator) * (SIDE - SQUARE)
    within = torch.arange(SIDE) - corners[:, :, None]
    rows, columns = ((within >= 0) & (within < SQUARE)).unbind(1)
    square = rows[:, :, None] & columns[:, None, :]
    value = torch.where(bright, 3.0, -3.0)[:, None, None]
    return torch.where(square, value, pictures)[:, None], (upright ^ bright).float()

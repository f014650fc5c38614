"""What does a dynamic convolution cost beside a plain one, and is it the same to begin with?

Set-up: 64 → 64 channels, kernels of 3 by 3, pictures of 32 by 32 in batches of 8, four kernels to mix;
forward, and backward to all parameters and the input. The layers take turns in one process, and the least
time of each counts. Once with the gate at zero, as after a conversion, and once after it has moved.

Bar: outputs ``torch.equal`` at gate 0; at most 1.8 times the plain layer at gate 0, at most 1.5 times once it
has moved.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import nn

from bioconvert.layers import DynamicConv2d

from .harness.findings import Bar, Finding, Settings

SEEDS = 1
BATCH, CHANNELS, SIDE = 8, 64, 32
ROUNDS, QUICK_ROUNDS = 60, 5
CLOSED_BAR, MOVED_BAR = 1.8, 1.5


def run(settings: Settings) -> list[Finding]:
    """Compare outputs and time the layers."""
    torch.manual_seed(settings.first)
    plain = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
    closed, moved = (DynamicConv2d(CHANNELS, CHANNELS, 3, padding=1, gate=gate) for gate in (0.0, 0.1))
    closed.weight, closed.bias = plain.weight, plain.bias
    x = torch.randn(BATCH, CHANNELS, SIDE, SIDE, requires_grad=True)
    same = torch.equal(closed(x), plain(x))
    rounds = QUICK_ROUNDS if settings.quick else ROUNDS
    least = _least([_step(layer, x) for layer in (plain, closed, moved)], rounds)
    return [
        Finding("gate 0: outputs equal", [float(same)], Bar("=", 1)),
        Finding("gate 0: time over the plain layer's", [least[1] / least[0]], Bar("≤", CLOSED_BAR)),
        Finding("gate moved: time over the plain layer's", [least[2] / least[0]], Bar("≤", MOVED_BAR)),
    ]


def _step(layer: nn.Module, x: torch.Tensor) -> Callable[[], object]:
    onward = torch.randn(BATCH, CHANNELS, SIDE, SIDE)
    return lambda: torch.autograd.grad(layer(x), (x, *layer.parameters()), onward)


def _least(steps: list[Callable[[], object]], rounds: int) -> list[float]:
    """Give the least seconds of each step, which take turns."""
    least = [float("inf")] * len(steps)
    for _ in range(rounds):
        for index, step in enumerate(steps):
            started = time.perf_counter()
            step()
            least[index] = min(least[index], time.perf_counter() - started)
    return least

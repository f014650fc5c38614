"""Does a deep network of Yat layers train from scratch?

Set-up: eight Yat layers of 128 units, each with a scale and an offset for each unit, and a linear head;
digits; 600 steps of Adam. Three starts: the data-driven initialisation; the same without a bias inside the
square (c = 0: units that are even in their input); Xavier normal weights, as the layers' constructors draw
them.

Bar: data-driven ≥ 93 %; Xavier ≤ 85 % in the mean; c = 0 ≤ 20 %.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from bioconvert.layers import YatLinear, initialise

from .harness.digits import Digits, digits
from .harness.findings import Bar, Finding, Settings
from .harness.training import accuracy, train

SEEDS = 5
DEPTH = 8
WIDTH = 128
STEPS = 600
QUICK_STEPS = 300


def run(settings: Settings) -> list[Finding]:
    """Train from each start and judge."""
    steps = QUICK_STEPS if settings.quick else STEPS

    def results(start: Callable[[Digits, int], nn.Module]) -> list[float]:
        return [_trained(start, seed, steps) for seed in settings.each_seed]

    return [
        Finding("accuracy, data-driven, %", results(_data_driven), Bar("≥", 93)),
        Finding("accuracy, Xavier, %", results(_xavier), Bar("≤", 85)),
        Finding("accuracy, data-driven but c = 0, %", results(_even), Bar("≤", 20)),
    ]


def _trained(start: Callable[[Digits, int], nn.Module], seed: int, steps: int) -> float:
    data = digits(seed)
    torch.manual_seed(seed)
    model = start(data, seed)
    train(model, data, steps=steps, seed=seed)
    return accuracy(model, data)


def _data_driven(data: Digits, seed: int, bias: bool = True) -> nn.Module:
    model = _network(bias=bias)
    initialise(model, data.inputs[:256], seed=seed)
    return model


def _even(data: Digits, seed: int) -> nn.Module:
    return _data_driven(data, seed, bias=False)


def _xavier(data: Digits, seed: int) -> nn.Module:  # noqa: ARG001 - one signature for all starts
    return _network(bias=True)


def _network(*, bias: bool) -> nn.Module:
    sizes = [64] + [WIDTH] * DEPTH
    layers = [YatLinear(size, WIDTH, bias, per_unit=True, offset=True) for size in sizes[:-1]]
    return nn.Sequential(*layers, nn.Linear(WIDTH, 10))

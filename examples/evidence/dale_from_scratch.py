"""Does a network that obeys Dale's principle learn as well as one that doesn't?

Set-up: networks 64-128-128-10 with ReLUs, on digits, 1,500 steps of Adam from scratch: one of plain layers;
one of DANN layers, whose outputs are excited directly and inhibited by interneurons, an eighth as many, all
parts kept non-negative by `dale`; the same with a start that isn't balanced, every part being as large as
the excitation; and plain layers with drawn signs of columns.

Bar: the DANN layers at most 1.5 points below the plain ones; no negative entry in any part.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn

import bioconvert as bc
from bioconvert.layers import DannLinear

from .harness.digits import Digits, digits
from .harness.findings import Bar, Finding, Settings
from .harness.training import accuracy, train

SEEDS = 3
STEPS = 1500
QUICK_STEPS = 800
SIZES = (64, 128, 128, 10)


def run(settings: Settings) -> list[Finding]:
    """Train each network and judge."""
    steps = QUICK_STEPS if settings.quick else STEPS
    found: dict[str, list[float]] = {}
    negative: list[float] = []
    for seed in settings.each_seed:
        data = digits(seed)
        for name, make in _NETWORKS.items():
            model = _trained(make, data, seed, steps)
            found.setdefault(name, []).append(accuracy(model, data))
            if name == "DANN":
                negative.append(float(sum(int((p < 0).sum()) for p in _parts(model))))
    ahead = [dann - plain for dann, plain in zip(found["DANN"], found["plain"], strict=True)]
    return [
        Finding("accuracy, plain layers, %", found["plain"]),
        Finding("accuracy, DANN layers, %", found["DANN"]),
        Finding("points above plain layers", ahead, Bar("≥", -1.5)),
        Finding("negative entries in the parts", negative, Bar("=", 0)),
        Finding("accuracy, DANN, start not balanced, %", found["unbalanced"]),
        Finding("accuracy, plain with signs of columns, %", found["columns"]),
    ]


def _plain() -> nn.Module:
    return _stacked(nn.Linear)


def _dann() -> nn.Module:
    return bc.convert(_stacked(DannLinear), _rules(exempt="none"))


def _unbalanced() -> nn.Module:
    model = _stacked(DannLinear)
    with torch.no_grad():
        for layer in model:
            if isinstance(layer, DannLinear):
                for part in (layer.inhibitory_in, layer.inhibitory_out):
                    part.exponential_().mul_(layer.weight.mean())
    return bc.convert(model, _rules(exempt="none"))


def _columns() -> nn.Module:
    return bc.convert(_stacked(nn.Linear), _rules(exempt="none", signs="fresh"))


_NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "plain": _plain,
    "DANN": _dann,
    "unbalanced": _unbalanced,
    "columns": _columns,
}


def _trained(make: Callable[[], nn.Module], data: Digits, seed: int, steps: int) -> nn.Module:
    torch.manual_seed(seed)
    model = make()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    if make is not _plain:
        bc.Plasticity(model, seed=seed).bind(optimizer)
    train(model, data, steps=steps, seed=seed, optimizer=optimizer)
    return model


def _parts(model: nn.Module) -> list[nn.Parameter]:
    layers = [layer for layer in model.modules() if isinstance(layer, DannLinear)]
    return [p for layer in layers for p in (layer.weight, layer.inhibitory_in, layer.inhibitory_out)]


def _rules(**options: str) -> dict[str, object]:
    return {"version": 1, "rules": [{"match": {"type": "linear"}, "attach": [{"dale": options}]}]}


def _stacked(layer: Callable[[int, int], nn.Module]) -> nn.Sequential:
    first, second, third = (layer(*sizes) for sizes in pairwise(SIZES))
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)

"""Do rates of single weights survive the optimizer?

Set-up: a ReLU network 64-128-10 on digits, 300 steps. A random half of the weights has the rate 0.1, the
others 1. How far the slowed weights have moved at the end, in the mean, in relation to the others: under SGD
with momentum, Adam and AdamW, with the rates on the optimizer's update, and beside it on the gradient, where
an adaptive optimizer divides them out again.

Bar, for rates on the update: a ratio of 0.10 ± 0.05 under each optimizer.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

import bioconvert as bc

from .harness.digits import digits
from .harness.findings import Bar, Finding, Settings
from .harness.training import train

SEEDS = 5
STEPS = 300
QUICK_STEPS = 100
SLOW = 0.1
TOLERANCE = 0.05
OPTIMIZERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "SGD": lambda model: torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9),
    "Adam": lambda model: torch.optim.Adam(model.parameters(), lr=1e-3),
    "AdamW": lambda model: torch.optim.AdamW(model.parameters(), lr=1e-3),
}


def run(settings: Settings) -> list[Finding]:
    """Train under each optimizer, with the rates on the update and on the gradient."""
    steps = QUICK_STEPS if settings.quick else STEPS
    findings = []
    for name in OPTIMIZERS:
        for target in ("update", "gradient"):
            ratios = [_ratio(name, target, steps, seed) for seed in settings.each_seed]
            what = f"movement of slowed to other weights, {name}, {target}"
            findings.append(Finding(what, ratios))
            if target == "update":
                away = [ratio - SLOW for ratio in ratios]
                findings.append(Finding(f"  away from {SLOW:g}", away, Bar("±", TOLERANCE)))
    return findings


def _ratio(name: str, target: str, steps: int, seed: int) -> float:
    """Train, and compare how far slowed and other weights have moved."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    rates = {"distribution": "baseline", "bounds": [SLOW, 1.0], "target": target}
    rules = [{"match": {"type": "linear"}, "attach": [{"fuzzy_lr": rates}]}]
    bc.convert(model, {"version": 1, "rules": rules}, seed=seed)
    layers = [layer for layer in model if isinstance(layer, nn.Linear)]
    slowed = [torch.rand_like(layer.weight) < 0.5 for layer in layers]
    for layer, slow in zip(layers, slowed, strict=True):
        layer.get_buffer("fuzzy_lr_rate")[slow] = SLOW
    before = [layer.weight.detach().clone() for layer in layers]
    optimizer = OPTIMIZERS[name](model)
    bc.Plasticity(model).bind(optimizer)
    train(model, digits(seed), steps=steps, seed=seed, optimizer=optimizer)
    moved = [(layer.weight.detach() - old).abs() for layer, old in zip(layers, before, strict=True)]
    of_slowed = torch.cat([each[slow] for each, slow in zip(moved, slowed, strict=True)])
    of_others = torch.cat([each[~slow] for each, slow in zip(moved, slowed, strict=True)])
    return float(of_slowed.mean() / of_others.mean())

"""Do fuzzy learning rates help on digits?

Set-up: a ReLU network 64-128-128-10 on digits, 600 steps of Adam at 1e-3, with the rates of each
distribution on the optimizer's update; the same initial weights and batches without them beside it.

Bar: a null result. The difference in accuracy is within 0.5 points for each distribution.
"""

from __future__ import annotations

import torch
from torch import nn

import bioconvert as bc

from .harness.digits import Digits, digits
from .harness.findings import Bar, Finding, Settings
from .harness.training import accuracy, train

SEEDS = 6
STEPS = 600
QUICK_STEPS = 200
DISTRIBUTIONS = ("uniform", "lognormal", "gamma", "weight_adaptive", "activity")


def run(settings: Settings) -> list[Finding]:
    """Train without rates, and with those of each distribution."""
    steps = QUICK_STEPS if settings.quick else STEPS
    found: dict[str, list[float]] = {}
    for seed in settings.each_seed:
        data = digits(seed)
        for distribution in ("", *DISTRIBUTIONS):
            found.setdefault(distribution, []).append(_trained(distribution, data, steps, seed))
    findings = [Finding("accuracy without rates, %", found[""])]
    for distribution in DISTRIBUTIONS:
        gained = [with_ - without for with_, without in zip(found[distribution], found[""], strict=True)]
        findings.append(Finding(f"points gained, {distribution}", gained, Bar("±", 0.5), null=True))
    return findings


def _trained(distribution: str, data: Digits, steps: int, seed: int) -> float:
    """Train with rates of a distribution, or none, and give the accuracy."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    if distribution:
        attach = [{"fuzzy_lr": {"distribution": distribution}}]
        rules = {"version": 1, "rules": [{"match": {"type": "linear"}, "attach": attach}]}
        bc.convert(model, rules, seed=seed)
        bc.Plasticity(model, seed=seed).bind(optimizer)
    train(model, data, steps=steps, seed=seed, optimizer=optimizer)
    return accuracy(model, data)

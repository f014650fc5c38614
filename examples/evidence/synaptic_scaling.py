"""Do neurons come back to the activity they had when their inputs become five times as large?

Set-up: a ReLU network 64-128-128-10 in training on digits. After 600 steps `synaptic_scaling` is attached to
both hidden layers and measures each unit's activity for 100 steps; then the inputs are multiplied by 5, and
training goes on for 200 steps. Measured is the relative error of each layer's mean activity on the test
pictures, against that before the change; beside it, the same network without scaling.

Bar: with scaling, the error within ± 20 % in both layers.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import nn

import bioconvert as bc

from .harness.digits import Digits, digits
from .harness.findings import Bar, Finding, Settings
from .harness.training import accuracy, train

SEEDS = 5
STEPS = 600
WINDOW = 100
STEPS_AFTER = 200
GAIN = 5
LAYERS = ("first", "second")
RULES = {
    "version": 1,
    "rules": [
        {
            "match": {"type": "linear", "not": "last"},
            "attach": [{"synaptic_scaling": {"window": WINDOW, "beta": 0.05}}],
        }
    ],
}


class Off(NamedTuple):
    """By how much an activity is off, in percent: that of a layer, and the size of its median unit's."""

    layer: float
    unit: float


Errors = list[Off]


def run(settings: Settings) -> list[Finding]:
    """Train, change the inputs, train on and judge."""
    errors: dict[str, list[Errors]] = {"with": [], "without": []}
    right: dict[str, list[float]] = {"before": [], "with": [], "without": []}
    for seed in settings.each_seed:
        data = digits(seed)
        torch.manual_seed(seed)
        plain = _network()
        train(plain, data, steps=STEPS, seed=seed)
        right["before"].append(accuracy(plain, data))
        for name in errors:
            model = copy.deepcopy(plain)
            if name == "with":
                bc.convert(model, RULES)
            errors[name].append(_errors(model, data, seed))
            right[name].append(accuracy(model, _louder(data)))
    return [
        *_findings("with scaling", errors["with"], Bar("±", 20)),
        *_findings("without", errors["without"], None),
        Finding("accuracy before, %", right["before"]),
        Finding("accuracy afterwards, with scaling, %", right["with"]),
        Finding("accuracy afterwards, without, %", right["without"]),
    ]


def _findings(how: str, errors: list[Errors], bar: Bar | None) -> Iterator[Finding]:
    for i, layer in enumerate(LAYERS):
        yield Finding(f"% off, {layer} hidden layer, {how}", [each[i].layer for each in errors], bar)
        yield Finding(f"% off, its median unit, {how}", [each[i].unit for each in errors])


def _errors(model: nn.Sequential, data: Digits, seed: int) -> Errors:
    """Train on, before and after the change, and give by how much the activity of each layer is off."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    if any(hasattr(layer, "synaptic_scaling_activity") for layer in model):
        bc.Plasticity(model, seed=seed).bind(optimizer)
    train(model, data, steps=WINDOW, seed=seed + 1000, optimizer=optimizer)
    before = _activity(model, data)
    louder = _louder(data)
    train(model, louder, steps=STEPS_AFTER, seed=seed + 2000, optimizer=optimizer)
    after = _activity(model, louder)
    return [_off(new, old) for new, old in zip(after, before, strict=True)]


def _off(new: torch.Tensor, old: torch.Tensor) -> Off:
    active = old > 0
    units = (new[active] / old[active] - 1).abs().median()
    return Off(100 * (new.sum() / old.sum() - 1).item(), 100 * units.item())


def _louder(data: Digits) -> Digits:
    return data._replace(inputs=GAIN * data.inputs, test_inputs=GAIN * data.test_inputs)


@torch.no_grad()
def _activity(model: nn.Sequential, data: Digits) -> list[torch.Tensor]:
    """Give the mean output of each unit of the hidden layers behind its ReLU."""
    first, second = model[:2], model[2:4]
    hidden = first(data.test_inputs)
    return [hidden.mean(0), second(hidden).mean(0)]


def _network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))

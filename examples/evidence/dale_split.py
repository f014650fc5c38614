"""Can a trained network be made to obey Dale's principle without losing what it knows?

Set-up: a ReLU network 64-128-128-10, trained on digits. Each hidden unit with outgoing synapses of both signs
is split into an excitatory and an inhibitory one; then `dale` is attached to the two layers that hidden units
send to, and the network trained on for 300 steps, its signs held by projection. Beside it: the signs that
each unit has more of, without a split; and a sign drawn for each row, as the reference does.

Bar: the split changes no logit by 1e-4; no synapse ever has the wrong sign; after 300 steps at most 1.5
points below the original. Drawn signs of rows leave at most 30 %.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

import bioconvert as bc
from bioconvert.plasticity import dale_split

from .harness.conversion import trained
from .harness.digits import Digits, digits
from .harness.findings import Bar, Finding, Settings
from .harness.training import accuracy, train

SEEDS = 5
STEPS = 1500
QUICK_STEPS = 500
CONSTRAINED_STEPS = 300
_MEASURES = ("teacher", "logits", "violations", "constrained", "majority", "majority, trained on", "rows")


def run(settings: Settings) -> list[Finding]:
    """Train, split, constrain and judge."""
    found: dict[str, list[float]] = {name: [] for name in _MEASURES}
    for seed in settings.each_seed:
        data = digits(seed)
        model = trained(_network, data, seed, QUICK_STEPS if settings.quick else STEPS)
        for name, value in _measured(model, data, seed).items():
            found[name].append(value)
    behind = [new - old for new, old in zip(found["constrained"], found["teacher"], strict=True)]
    return [
        Finding("accuracy of the original, %", found["teacher"]),
        Finding("greatest change of a logit, split", found["logits"], Bar("<", 1e-4)),
        Finding("synapses of the wrong sign, over all steps", found["violations"], Bar("=", 0)),
        Finding("accuracy, split, 300 steps later, %", found["constrained"]),
        Finding("points above the original", behind, Bar("≥", -1.5)),
        Finding("accuracy, majority signs, at once, %", found["majority"]),
        Finding("accuracy, majority signs, 300 steps later, %", found["majority, trained on"]),
        Finding("accuracy, signs drawn for rows, %", found["rows"], Bar("≤", 30)),
    ]


def _measured(model: nn.Sequential, data: Digits, seed: int) -> dict[str, float]:
    split = copy.deepcopy(model)
    dale_split(split)
    bc.convert(split, _rules(signs="split"))
    with torch.no_grad():
        change = (split(data.test_inputs) - model(data.test_inputs)).abs().max().item()
    violations = _train_on(split, data, seed)
    majority = bc.convert(copy.deepcopy(model), _rules(signs="majority"))
    at_once = accuracy(majority, data)
    violations += _train_on(majority, data, seed)
    rows = bc.convert(copy.deepcopy(model), _rules(signs="fresh", axis="incoming"), seed=seed)
    values = (
        accuracy(model, data),
        change,
        float(violations),
        accuracy(split, data),
        at_once,
        accuracy(majority, data),
        accuracy(rows, data),
    )
    return dict(zip(_MEASURES, values, strict=True))


def _rules(**options: str) -> dict[str, object]:
    """Give the rules that attach `dale` to the layers that hidden units send to."""
    dale = {"exempt": "none", **options}
    return {
        "version": 1,
        "rules": [{"match": {"type": "linear", "not": "first"}, "attach": [{"dale": dale}]}],
    }


def _train_on(model: nn.Sequential, data: Digits, seed: int) -> int:
    """Train under the constraint, and count what breaks it after any step."""
    wrong = 0

    def count(*_: object) -> None:
        nonlocal wrong
        layers = [layer for layer in model if hasattr(layer, "dale_sign")]
        wrong += sum(int((layer.weight * layer.dale_sign < 0).sum()) for layer in layers)

    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    bc.Plasticity(model, seed=seed).bind(optimizer)
    optimizer.register_step_post_hook(count)
    train(model, data, steps=CONSTRAINED_STEPS, seed=seed + 1000, optimizer=optimizer)
    return wrong


def _network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))

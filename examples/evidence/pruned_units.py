"""Can half of a network's hidden units go without training afterwards?

Set-up: a ReLU network 64-128-128-10, trained on digits. Half of the units of both hidden layers go, chosen in
four ways: by Taylor score (activation times gradient of the loss on training data), mean activation, norm of
the incoming weights, and by chance; each with and without a refit of the layer behind by ridge regression, on
512 training samples. Beside it a convolutional network 16-32, with BatchNorm, pooling and flattening. No
training afterwards.

Bar: with the refit, at most 1.5 points of accuracy lost by the MLP, by Taylor score and by chance. Without it
there is no bar: what a unit is worth alone may choose worse than chance, since units of worth can be copies
of each other; with it, the choice hardly matters. Both are printed as they are.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

from torch import nn
from torch.nn import functional as F

import bioconvert as bc

from .harness.conversion import trained
from .harness.digits import Digits, digits
from .harness.findings import Bar, Finding, Settings
from .harness.training import accuracy

SEEDS = 5
STEPS = 1500
QUICK_STEPS = 500
SAMPLES = 512
_WAYS = ("taylor", "activation", "magnitude", "random")
_RULES = {"version": 1, "rules": [{"match": {"path": ""}, "wrap": {}}]}


def run(settings: Settings) -> list[Finding]:
    """Train, prune in each way and judge."""
    found: dict[str, list[float]] = {}
    for seed in settings.each_seed:
        data = digits(seed)
        steps = QUICK_STEPS if settings.quick else STEPS
        _measure(found, "MLP", _mlp, data, seed, steps)
        _measure(found, "CNN", _cnn, data.as_pictures(), seed, steps // 3)
    findings = [Finding(name, values, _bar(name)) for name, values in found.items()]
    for told in ("alone", "refitted"):
        lost = [found[f"MLP, points lost, {told}, by {by}"] for by in ("taylor", "random")]
        ahead = [more - less for more, less in zip(*lost, strict=True)]
        findings.append(Finding(f"MLP, points chance is ahead of taylor, {told}", ahead))
    return findings


def _bar(name: str) -> Bar | None:
    judged = ("MLP, points lost, refitted, by taylor", "MLP, points lost, refitted, by random")
    return Bar("≤", 1.5) if name in judged else None


def _measure(
    found: dict[str, list[float]],
    name: str,
    make: Callable[[], nn.Module],
    data: Digits,
    seed: int,
    steps: int,
) -> None:
    model = bc.convert(trained(make, data, seed, steps), _RULES)
    before = accuracy(model, data)
    found.setdefault(f"{name}, accuracy before, %", []).append(before)
    for told, refits in (("alone", False), ("refitted", True)):
        for by in _WAYS:
            lost = before - accuracy(_pruned(model, data, by, seed, refits=refits), data)
            found.setdefault(f"{name}, points lost, {told}, by {by}", []).append(lost)


def _pruned(model: nn.Module, data: Digits, by: str, seed: int, *, refits: bool) -> nn.Module:
    """Give a copy with half of the hidden units."""
    pruned = copy.deepcopy(model)
    samples = [data.inputs[:SAMPLES]]
    bc.Organism(pruned, seed=seed).prune_units(
        "model",
        0.5,
        by=by,
        samples=samples,
        refit=samples if refits else None,
        loss=lambda output, number: F.cross_entropy(output, data.labels[:SAMPLES]),  # noqa: ARG005
    )
    return pruned


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))


def _cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 16, 10),
    )

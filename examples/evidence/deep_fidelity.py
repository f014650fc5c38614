"""Does conversion hold for deeper and convolutional networks?

Set-up: a ReLU network with four hidden layers of 64, and a convolutional one with 16 and 32 channels, trained
on digits; every hidden layer becomes a Yat layer and its activation goes, fitted on 256 samples; then 100
steps of training, of the original too.

Bar, for calibration: at most 2.5 points of accuracy lost at once, and at most 1 after the 100 steps.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from .harness.conversion import METHODS, TUNING_STEPS, Outcome, outcome, trained, tuned
from .harness.digits import Digits, digits
from .harness.findings import Bar, Finding, Settings
from .harness.training import accuracy

SEEDS = 5
STEPS = 1500
QUICK_STEPS = 400
SAMPLES = 256


def run(settings: Settings) -> list[Finding]:
    """Train, convert in each way, judge, train on and judge again."""
    steps = QUICK_STEPS if settings.quick else STEPS
    findings: list[Finding] = []
    for name, make, shaped in _NETWORKS:
        teachers: list[float] = []
        later: list[float] = []
        found: dict[str, list[Outcome]] = {method: [] for method in METHODS}
        for seed in settings.each_seed:
            data = shaped(digits(seed))
            model = trained(make, data, seed, steps)
            teachers.append(accuracy(model, data))
            for method in METHODS:
                found[method].append(outcome(model, method, data, SAMPLES, seed, TUNING_STEPS))
            later.append(tuned(model, data, seed, TUNING_STEPS))
        findings += _findings(name, teachers, later, found)
    return findings


def _findings(
    name: str, teachers: list[float], later: list[float], found: dict[str, list[Outcome]]
) -> list[Finding]:
    def lost(values: list[float]) -> list[float]:
        return [old - new for old, new in zip(teachers, values, strict=True)]

    calibrated = found["calibrate"]
    return [
        Finding(f"{name}: accuracy of the original, %", teachers),
        *(
            Finding(f"{name}: accuracy, {method}, %", [each.at_once for each in outcomes])
            for method, outcomes in found.items()
        ),
        Finding(
            f"{name}: points lost, calibrate", lost([each.at_once for each in calibrated]), Bar("≤", 2.5)
        ),
        Finding(
            f"{name}: the same after {TUNING_STEPS} steps",
            lost([each.tuned for each in calibrated]),
            Bar("≤", 1),
        ),
        Finding(f"{name}: points lost by the original in these steps", lost(later)),
        Finding(f"{name}: R² of logits, calibrate", [each.r_squared for each in calibrated]),
    ]


def _perceptron() -> nn.Module:
    layers = [module for size in (64, 64, 64, 64) for module in (nn.Linear(size, 64), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(64, 10))


def _convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 10),
    )


_NETWORKS: tuple[tuple[str, Callable[[], nn.Module], Callable[[Digits], Digits]], ...] = (
    ("4 × 64", _perceptron, lambda data: data),
    ("CNN", _convolutions, Digits.as_pictures),
)

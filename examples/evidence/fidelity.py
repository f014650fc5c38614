"""How much of a trained network is left right after its layers became Yat layers?

Set-up: a ReLU network 64-128-128-10, trained on digits; both hidden layers become Yat layers and their
activations go. Four ways: the layers drawn anew, weight and bias copied, the closed form, and calibration,
the last two on 256 samples, calibration also on 64. No training afterwards.

Bar, for calibration: at most 1.5 points of accuracy lost and an R² of the logits of at least 0.95; drawn anew
at most 20 %; the plain copy worse than calibration.
"""

from __future__ import annotations

from torch import nn

from .harness.conversion import METHODS, Outcome, outcome, trained
from .harness.digits import digits
from .harness.findings import Bar, Finding, Settings
from .harness.training import accuracy

SEEDS = 5
STEPS = 1500
QUICK_STEPS = 500
SAMPLES = 256
FEW_SAMPLES = 64


def run(settings: Settings) -> list[Finding]:
    """Train, convert in each way and judge."""
    teachers: list[float] = []
    found: dict[str, list[Outcome]] = {}
    for seed in settings.each_seed:
        data = digits(seed)
        model = trained(_network, data, seed, QUICK_STEPS if settings.quick else STEPS)
        teachers.append(accuracy(model, data))
        for method in METHODS:
            found.setdefault(method, []).append(outcome(model, method, data, SAMPLES, seed, 0))
        few = outcome(model, "calibrate", data, FEW_SAMPLES, seed, 0)
        found.setdefault("few", []).append(few)
    return _findings(teachers, found)


def _findings(teachers: list[float], found: dict[str, list[Outcome]]) -> list[Finding]:
    at_once = {method: [each.at_once for each in outcomes] for method, outcomes in found.items()}
    explained = {method: [each.r_squared for each in outcomes] for method, outcomes in found.items()}

    def lost(method: str) -> list[float]:
        return [old - new for old, new in zip(teachers, at_once[method], strict=True)]

    ahead = [new - old for new, old in zip(at_once["calibrate"], at_once["copy"], strict=True)]
    return [
        Finding("accuracy of the original, %", teachers),
        Finding("accuracy, drawn anew, %", at_once["re-init"], Bar("≤", 20)),
        Finding("accuracy, copied, %", at_once["copy"]),
        Finding("accuracy, closed form, %", at_once["closed form"]),
        Finding("accuracy, calibrated, %", at_once["calibrate"]),
        Finding("points lost, calibrated", lost("calibrate"), Bar("≤", 1.5)),
        Finding(f"points lost, calibrated on {FEW_SAMPLES}", lost("few"), Bar("≤", 1.5)),
        Finding("points calibration is ahead of copying", ahead, Bar(">", 0)),
        Finding("R² of logits, copied", explained["copy"]),
        Finding("R² of logits, closed form", explained["closed form"]),
        Finding("R² of logits, calibrated", explained["calibrate"], Bar("≥", 0.95)),
        Finding(f"R² of logits, calibrated on {FEW_SAMPLES}", explained["few"], Bar("≥", 0.95)),
    ]


def _network() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))

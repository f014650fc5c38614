"""Does a language model survive the conversion of its multilayer perceptrons?

Set-up: a transformer of GPT-2's shape, two layers of width 128, a context of 64 characters, trained on source
files of Python's standard library; in each multilayer perceptron the Linear and the GELU behind it become one
Yat layer, calibrated on 64 stretches of text; then 100 steps of training. Beside it the same with these
layers drawn anew, and the original trained on for the same 100 steps.

Bar, for the loss on validation text, in nats a character: after the 100 steps at most 3 % above the original
that was trained on as well; drawn anew, the loss at once is at least 20 % higher.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from .harness.characters import VOCABULARY, texts, windows
from .harness.conversion import TUNING_RATE, TUNING_STEPS, converted
from .harness.findings import Bar, Finding, Settings
from .harness.transformer import LanguageModel

SEEDS = 1
STEPS = 600
QUICK_STEPS = 150
CONTEXT = 64
_BATCH = 32
_CALIBRATION = 64
_RATE = 1e-3


class Losses(NamedTuple):
    """Validation losses at once and after the further steps."""

    at_once: float
    tuned: float


def run(settings: Settings) -> list[Finding]:
    """Train, convert, and train on."""
    found = [_losses(seed, settings.quick) for seed in settings.each_seed]
    names = list(found[0])
    findings = [
        Finding(f"loss, {name}{when}", [getattr(each[name], which) for each in found])
        for name in names
        for which, when in (("at_once", ""), ("tuned", f", {TUNING_STEPS} steps later"))
    ]
    return [
        *findings,
        Finding("increase at once, calibrate, %", [_more(each, "calibrate", "at_once") for each in found]),
        Finding(
            "increase at once, re-init, %",
            [_more(each, "re-init", "at_once") for each in found],
            Bar("≥", 20),
        ),
        Finding(
            "increase later, calibrate, %", [_more(each, "calibrate", "tuned") for each in found], Bar("≤", 3)
        ),
        Finding("increase later, re-init, %", [_more(each, "re-init", "tuned") for each in found]),
    ]


def _more(losses: dict[str, Losses], name: str, which: str) -> float:
    """Give by how many percent a loss is above the original's."""
    return 100 * (getattr(losses[name], which) / getattr(losses["original"], which) - 1)


def _losses(seed: int, quick: bool) -> dict[str, Losses]:
    text, validation = texts()
    torch.manual_seed(seed)
    model = LanguageModel(VOCABULARY, CONTEXT)
    _train(model, text, QUICK_STEPS if quick else STEPS, _RATE, seed)
    sample = windows(text, CONTEXT, _CALIBRATION, torch.Generator().manual_seed(seed))
    found = {}
    for name in ("original", "calibrate", "copy", "re-init"):
        other = copy.deepcopy(model) if name == "original" else converted(model, name, sample)
        at_once = _loss(other, validation)
        _train(other, text, TUNING_STEPS, TUNING_RATE, seed + 1000)
        found[name] = Losses(at_once, _loss(other, validation))
    return found


def _train(model: nn.Module, text: torch.Tensor, steps: int, rate: float, seed: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.1, steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        batch = windows(text, CONTEXT + 1, _BATCH, generator)
        optimizer.zero_grad()
        _cross_entropy(model, batch).backward()
        optimizer.step()
        schedule.step()


@torch.no_grad()
def _loss(model: nn.Module, text: torch.Tensor) -> float:
    """Give the loss on one draw of the validation text, the same for every model."""
    batch = windows(text, CONTEXT + 1, 256, torch.Generator().manual_seed(0))
    return _cross_entropy(model, batch).item()


def _cross_entropy(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())

"""Does a single Yat neuron solve XOR?

Set-up: one unit on two inputs, its α and offset learnt, its output the logit; the four points with
coordinates ±1; 500 steps of Adam at 0.1 from the data-driven initialisation. All seeds train side by side, as
the units of one layer: they share nothing, and Adam's step is one of each element. Linear neurons beside them
can't get more than three of the four points right.

Bar: at least 18 of 20 seeds end with all four points right.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from bioconvert.layers import YatLinear, initialise

from .harness.findings import Bar, Finding, Settings

SEEDS = 20
STEPS = 500
_POINTS = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
_LABELS = torch.tensor([0.0, 1.0, 1.0, 0.0])[:, None]


def run(settings: Settings) -> list[Finding]:
    """Train a Yat and a linear neuron for each seed."""
    torch.manual_seed(0)
    yat = YatLinear(2, settings.seeds, per_unit=True, offset=True)
    initialise(yat, _POINTS)
    return [
        Finding("share of seeds solved, Yat", [_solved(yat)], Bar("≥", 0.9)),
        Finding("share of seeds solved, linear", [_solved(nn.Linear(2, settings.seeds))]),
    ]


def _solved(neurons: nn.Module) -> float:
    """Train neurons and give the share of those that get all points right."""
    optimizer = torch.optim.Adam(neurons.parameters(), lr=0.1)
    for _ in range(STEPS):
        logits = neurons(_POINTS)
        loss = F.binary_cross_entropy_with_logits(logits, _LABELS.expand_as(logits), reduction="sum")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return ((neurons(_POINTS) > 0) == (_LABELS > 0)).all(0).float().mean().item()

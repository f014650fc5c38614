"""Does a network that grows in width learn more than the one it began as?

Set-up: a teacher 20-32-1 with ReLU, random; a student that begins as 20-4-1 and doubles its hidden units
three times, to 32, by each of the four ways; Adam, one quarter of the steps at each size. For comparison, a
student that keeps 4 units and one that has 32 from the start, for as many steps in all. The error is the mean
square on fresh inputs, in units of the variance of the teacher's output.

Bar, for each way: at growth, the loss on the training data changes by less than a part in 100,000; at the
end, the error is at most half of the one with 4 units.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean

import torch
from torch import nn
from torch.nn import functional as F

import bioconvert as bc

from .harness.findings import Bar, Finding, Settings

SEEDS = 5
STEPS = 1000
SAMPLES = 4096
BATCH = 128
RATE = 3e-3
SMALL, LARGE = 4, 32
WAYS = ("zero", "paired", "net2wider", "gradmax")
_RULES = {"version": 1, "rules": [{"match": {"path": "0"}, "wrap": {}}]}


class Data:
    """A teacher's inputs and outputs, for training and for testing.

    Args:
        seed: decides all.
    """

    def __init__(self, seed: int):
        generator = torch.Generator().manual_seed(seed)
        self.x, self.test_x = (torch.randn(SAMPLES, 20, generator=generator) for _ in range(2))
        first, second = (torch.randn(shape, generator=generator) for shape in ((LARGE, 20), (1, LARGE)))
        y = F.relu(self.x @ first.T) @ second.T
        mean, deviation = y.mean(), y.std()
        self.y = (y - mean) / deviation
        self.test_y = (F.relu(self.test_x @ first.T) @ second.T - mean) / deviation


def run(settings: Settings) -> list[Finding]:
    """Let students grow in each way and judge."""
    steps = 100 if settings.quick else STEPS
    changes: dict[str, list[float]] = {by: [] for by in WAYS}
    ends: dict[str, list[float]] = {by: [] for by in WAYS}
    small, large = [], []
    for seed in settings.each_seed:
        data = Data(seed)
        small.append(fixed(data, SMALL, 4 * steps, seed))
        large.append(fixed(data, LARGE, 4 * steps, seed))
        for by in WAYS:
            change, end = growing(data, by, steps, seed)
            changes[by].append(change)
            ends[by].append(end)
    findings = [
        Finding(f"error at the end, {SMALL} units", small),
        Finding(f"error at the end, {LARGE} units from the start", large),
    ]
    for by in WAYS:
        findings.append(Finding(f"largest change of the loss at growth, {by}", changes[by], Bar("<", 1e-5)))
        findings.append(Finding(f"error at the end, {by}", ends[by]))
        share = fmean(ends[by]) / fmean(small)
        findings.append(Finding(f"share of the error with {SMALL} units, {by}", [share], Bar("≤", 0.5)))
    return findings


def student(units: int, seed: int) -> nn.Module:
    """Build a student."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Sequential(nn.Linear(20, units), nn.ReLU(), nn.Linear(units, 1)))


def fixed(data: Data, units: int, steps: int, seed: int) -> float:
    """Train a student that doesn't grow, and give its error."""
    model = student(units, seed)
    train(model, torch.optim.Adam(model.parameters(), lr=RATE), data, steps, seed)
    return error(model, data.test_x, data.test_y)


def growing(data: Data, by: str, steps: int, seed: int) -> tuple[float, float]:
    """Train a student that grows, and give the largest change of the loss at growth and the error."""
    model = bc.convert(student(SMALL, seed), _RULES)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    organism = bc.Organism(model, seed=seed).bind(optimizer)
    loss: Callable[[], torch.Tensor] = lambda: F.mse_loss(model(data.x), data.y)  # noqa: E731
    train(model, optimizer, data, steps, seed)
    changes = []
    for phase in range(1, 4):
        before = error(model, data.x, data.y)
        organism.grow("0", "width", by=by, loss=loss if by == "gradmax" else None)
        changes.append(abs(error(model, data.x, data.y) - before) / before)
        train(model, optimizer, data, steps, seed + 1000 * phase)
    return max(changes), error(model, data.test_x, data.test_y)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, data: Data, steps: int, seed: int) -> None:
    """Do some steps on batches drawn by the seed."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        chosen = torch.randint(SAMPLES, (BATCH,), generator=generator)
        optimizer.zero_grad()
        F.mse_loss(model(data.x[chosen]), data.y[chosen]).backward()
        optimizer.step()


@torch.no_grad()
def error(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Give the mean square error, worked out exactly enough to see a part in 100,000."""
    return (model(x).double() - y.double()).square().mean().item()

"""Does training go on undisturbed when layers grow or lose units under the optimizer?

Set-up: a network 64-32-10 on digits, 600 steps of Adam at 3e-3 in batches of 64. Then one thing happens: the
hidden layer doubles, by each of the four ways; the block gets a branch; or the quarter, or half, of the units
that is worth least goes, with a refit of the layer behind or without. Ten steps later the loss on all
training pictures is compared with what it was before. For comparison, nothing happens, or the layer doubles
by `zero` and the optimizer begins anew.

Bar: the moments of all weights that stay are equal to the last bit after growth and pruning. Ten steps after
growth the loss is less than 10 % above the one before; so it is after pruning a quarter of the units with the
refit. Half of the units, and pruning without the refit, stand there without a bar: with the refit, half cost
17 % on these seeds, and would miss it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

import bioconvert as bc

from .harness.digits import Digits, digits
from .harness.findings import Bar, Finding, Settings

SEEDS = 5
STEPS = 600
LATER = 10
BATCH = 64
RATE = 3e-3
UNITS = 32
_RULES = {"version": 1, "rules": [{"match": {"path": "0"}, "wrap": {}}]}


class Training:
    """A model in the midst of its training.

    Args:
        seed: decides all.
        steps: number of steps done.
    """

    def __init__(self, seed: int, steps: int):
        torch.manual_seed(seed)
        block = nn.Sequential(nn.Linear(64, UNITS), nn.ReLU(), nn.Linear(UNITS, 10))
        self.data: Digits = digits(seed)
        self.model = bc.convert(nn.Sequential(block), _RULES)
        self.optimizer: torch.optim.Optimizer = torch.optim.Adam(self.model.parameters(), lr=RATE)
        self.organism = bc.Organism(self.model, seed=seed).bind(self.optimizer)
        self.generator = torch.Generator().manual_seed(seed)
        self.units_left = torch.arange(UNITS)
        self.go_on(steps)

    def loss(self) -> torch.Tensor:
        """Give the loss on all training pictures."""
        return F.cross_entropy(self.model(self.data.inputs), self.data.labels)

    def go_on(self, steps: int) -> None:
        """Do some steps."""
        for _ in range(steps):
            chosen = torch.randint(len(self.data.inputs), (BATCH,), generator=self.generator)
            self.optimizer.zero_grad()
            F.cross_entropy(self.model(self.data.inputs[chosen]), self.data.labels[chosen]).backward()
            self.optimizer.step()

    def width(self, by: str) -> None:
        """Double the hidden layer."""
        self.organism.grow("0", "width", by=by, loss=self.loss if by == "gradmax" else None)

    def anew(self) -> None:
        """Double the hidden layer, and begin with a fresh optimizer."""
        self.width("zero")
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=RATE)

    def prune(self, share: float, *, refit: bool) -> None:
        """Take the share of the units that is worth least."""
        batches, labels = [self.data.inputs], self.data.labels
        (done,) = self.organism.prune_units(
            "0",
            share,
            refit=batches if refit else None,
            samples=batches,
            loss=lambda output, _: F.cross_entropy(output, labels),
        )
        self.units_left = torch.tensor(done.kept)


GROWTH: dict[str, Callable[[Training], object]] = {
    "width by zero": lambda training: training.width("zero"),
    "width by paired": lambda training: training.width("paired"),
    "width by net2wider": lambda training: training.width("net2wider"),
    "width by gradmax": lambda training: training.width("gradmax"),
    "a branch": lambda training: training.organism.grow("0"),
}
PRUNING: dict[str, Callable[[Training], object]] = {
    "a quarter of the units pruned, refit": lambda training: training.prune(0.25, refit=True),
    "half of the units pruned, refit": lambda training: training.prune(0.5, refit=True),
    "half of the units pruned, no refit": lambda training: training.prune(0.5, refit=False),
}
OTHERS: dict[str, Callable[[Training], object]] = {
    "nothing": lambda training: None,  # noqa: ARG005
    "width by zero, fresh optimizer": lambda training: training.anew(),
}


def run(settings: Settings) -> list[Finding]:
    """Let each thing happen and judge."""
    steps = 60 if settings.quick else STEPS
    findings = []
    for name, happen in {**GROWTH, **PRUNING, **OTHERS}.items():
        changed, rises = [], []
        for seed in settings.each_seed:
            training = Training(seed, steps)
            before, moments = training.loss().item(), kept_moments(training)
            happen(training)
            if name not in OTHERS:
                changed.append(float(sum(not same for same in still_there(training, moments))))
            training.go_on(LATER)
            rises.append(100 * (training.loss().item() / before - 1))
        if changed:
            findings.append(Finding(f"moments changed, {name}", changed, Bar("=", 0)))
        bar = Bar("<", 10) if name in GROWTH or "quarter" in name else None
        findings.append(Finding(f"rise of the loss {LATER} steps later, {name}, %", rises, bar))
    return findings


Moments = dict[torch.Tensor, dict[str, torch.Tensor]]


def kept_moments(training: Training) -> Moments:
    """Copy what the optimizer remembers."""
    names = ("exp_avg", "exp_avg_sq")
    state = training.optimizer.state
    return {p: {name: state[p][name].clone() for name in names} for p in state}


def still_there(training: Training, moments: Moments) -> list[bool]:
    """Say of each tensor of moments whether what stays of it has kept every bit."""
    found = []
    for parameter, each in moments.items():
        for name, old in each.items():
            new = training.optimizer.state[parameter][name]
            kept = _kept(training, old, new)
            common = tuple(slice(size) for size in kept.shape)
            found.append(torch.equal(new[common], kept))
    return found


def _kept(training: Training, old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """Give the part of a tensor that belongs to units that are still there."""
    for axis, (size, left) in enumerate(zip(old.shape, new.shape, strict=True)):
        if size > left:
            old = old.index_select(axis, training.units_left)
    return old

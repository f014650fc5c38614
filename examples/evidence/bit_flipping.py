"""Does regression on a slowly changing problem get worse with time?

Set-up: the bit-flipping problem of Dohare et al. (2024), shorter. Of 20 bits, 15 stay for a while: every 64
steps one of them flips; 5 are random in each example. The target is a fixed network of 100 threshold units
with weights ±1. A network with 20 hidden units and ReLU follows it with Adam at 0.02, 8 examples a step,
6,000 steps. 30 runs, each with a target of its own, train side by side as the groups of convolutions of
width 1, whose units are compared within their group. A unit is dead if it is 0 for all of 256 random
inputs. The error grows by the factor from the first tenth of the steps, after two flips, to the last.

Bar: without rejuvenation the error grows ≥ 1.3 × and ≥ 50 % of the units are dead in the end; with
continual backprop ≤ 1.1 × and ≤ 15 %.
"""

from __future__ import annotations

import torch
from torch import nn

import bioconvert as bc

from .harness.findings import Bar, Finding, Settings

SEEDS = 1
RUNS = 30
BITS, SLOW = 20, 15
TARGET_UNITS = 100
_THRESHOLD = 0.7
HIDDEN = 20
BATCH = 8
FLIP = 64
STEPS = 6000
QUICK_STEPS = 3000
RATE = 0.02
_PROBE = 256
REJUVENATE = {"law": "continual_backprop", "every": 1, "rate": 5e-3, "maturity": 20}


class Problem:
    """Bits that flip, and targets, for all runs.

    Args:
        seed: decides everything.
    """

    def __init__(self, seed: int):
        self._generator = torch.Generator().manual_seed(seed)
        self._slow = self._bits(RUNS, SLOW)
        self._weights = self._bits(RUNS, TARGET_UNITS, BITS + 1) * 2 - 1
        self._out = (self._bits(RUNS, TARGET_UNITS) * 2 - 1) / TARGET_UNITS**0.5
        negative = (self._weights < 0).sum(2)
        self._thresholds = (BITS + 1) * _THRESHOLD - negative

    def flip(self) -> None:
        """Flip one of the slow bits in each run."""
        chosen = torch.randint(SLOW, (RUNS, 1), generator=self._generator)
        self._slow.scatter_(1, chosen, 1 - self._slow.gather(1, chosen))

    def batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Give inputs, [examples, runs, bits], and targets, [examples, runs]."""
        slow = self._slow.expand(BATCH, -1, -1)
        inputs = torch.cat([slow, self._bits(BATCH, RUNS, BITS - SLOW)], 2)
        return inputs, self._targets(inputs)

    def anything(self, count: int) -> torch.Tensor:
        """Give inputs in which every bit is random."""
        return self._bits(count, RUNS, BITS)

    def _targets(self, inputs: torch.Tensor) -> torch.Tensor:
        with_bias = torch.cat([inputs, torch.ones_like(inputs[..., :1])], 2)
        potentials = torch.einsum("brf,ruf->bru", with_bias, self._weights)
        return ((potentials > self._thresholds) * self._out).sum(2)

    def _bits(self, *shape: int) -> torch.Tensor:
        return torch.randint(2, shape, generator=self._generator).float()


def run(settings: Settings) -> list[Finding]:
    """Train with and without rejuvenation and judge."""
    steps = QUICK_STEPS if settings.quick else STEPS
    told = {
        law: [followed(seed, steps, rejuvenated=law != "plain") for seed in settings.each_seed]
        for law in ("plain", "continual backprop")
    }
    bars = {"plain": (Bar("≥", 1.3), Bar("≥", 50)), "continual backprop": (Bar("≤", 1.1), Bar("≤", 15))}
    return [
        Finding(f"{what}, {law}", [each[i] for each in results], bars[law][i])
        for law, results in told.items()
        for i, what in enumerate(("growth of the error", "dead units, %"))
    ]


def followed(seed: int, steps: int, *, rejuvenated: bool) -> tuple[float, float]:
    """Train all runs and give the growth of the error, and the share of dead units in percent."""
    torch.manual_seed(seed)
    problem = Problem(seed)
    model, optimizer = _bound(seed, rejuvenated)
    errors = torch.zeros(steps)
    for step in range(steps):
        if step % FLIP == FLIP - 1:
            problem.flip()
        inputs, targets = problem.batch()
        off = model(inputs.flatten(1)[..., None])[..., 0] - targets
        errors[step] = off.detach().square().mean()
        optimizer.zero_grad()
        # Runs share nothing: the sum over them gives each the gradient that it would have alone.
        off.square().mean(0).sum().backward()
        optimizer.step()
    tenth, start = steps // 10, 2 * FLIP
    growth = errors[-tenth:].mean() / errors[start : start + tenth].mean()
    return float(growth), 100 * _dead(model, problem)


def _bound(seed: int, rejuvenated: bool) -> tuple[nn.Module, torch.optim.Optimizer]:
    model: nn.Module = nn.Sequential(
        nn.Conv1d(RUNS * BITS, RUNS * HIDDEN, 1, groups=RUNS),
        nn.ReLU(),
        nn.Conv1d(RUNS * HIDDEN, RUNS, 1, groups=RUNS),
    )
    if rejuvenated:
        rule = {"match": {"path": "0"}, "attach": [{"rejuvenate": REJUVENATE}]}
        model = bc.convert(model, {"version": 1, "rules": [rule]})
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    if rejuvenated:
        bc.Plasticity(model, seed=seed).bind(optimizer)
    return model, optimizer


@torch.no_grad()
def _dead(model: nn.Module, problem: Problem) -> float:
    hidden = model[:2](problem.anything(_PROBE).flatten(1)[..., None])  # type: ignore[index]
    return float((hidden == 0).all(0).float().mean())

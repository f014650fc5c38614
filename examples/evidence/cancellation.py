"""Does the Yat product stay exact where an input nearly is a weight?

Set-up: 64 features, ‖w‖² of 64, 2.6e4 and 9e5, ε = 1e-5; inputs at relative distances from a weight between
1e-7 and 1, in fp32; the largest relative error of an output against the same in fp64. The distance as ‖x‖² +
‖w‖² − 2 w·x in plain fp32 cancels there; it is printed beside.

Bar: relative error < 1e-3.
"""

from __future__ import annotations

import torch

from bioconvert.functional import yat_linear

from .harness.findings import Bar, Finding, Settings

SEEDS = 3
SIZES = (64.0, 2.6e4, 9e5)
EPSILON = 1e-5
BAR = 1e-3
_FEATURES = 64
_UNITS = 32
_DISTANCES = torch.logspace(-7, 0, 29)


def run(settings: Settings) -> list[Finding]:
    """Compare with fp64, at each size."""
    findings = []
    for size in SIZES:
        errors = [_errors(size, seed) for seed in settings.each_seed]
        ours, naive = zip(*errors, strict=True)
        findings += [
            Finding(f"relative error, ‖w‖² = {size:g}", ours, Bar("<", BAR)),
            Finding(f"relative error, ‖w‖² = {size:g}, plain fp32", naive),
        ]
    return findings


def _errors(size: float, seed: int) -> tuple[float, float]:
    """Give the largest relative error of ours and of the plain formula."""
    generator = torch.Generator().manual_seed(seed)
    scale = (size / _FEATURES) ** 0.5
    weight = torch.randn(_UNITS, _FEATURES, generator=generator) * scale
    noise = torch.randn(len(_DISTANCES), _UNITS, _FEATURES, generator=generator) * scale
    x = (weight + _DISTANCES[:, None, None] * noise).flatten(0, 1)
    exact = _formula(x.double(), weight.double())
    return tuple(
        ((y.double() - exact).abs() / exact.clamp_min(1e-9 * size)).max().item()
        for y in (yat_linear(x, weight, epsilon=EPSILON), _plain(x, weight))
    )


def _formula(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Give the Yat product from differences, which don't cancel."""
    distance = torch.stack([(x - row).square().sum(1) for row in weight], 1)
    return (x @ weight.t()).square() / (distance + EPSILON)


def _plain(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    score = x @ weight.t()
    distance = x.square().sum(1, keepdim=True) + weight.square().sum(1) - 2 * score
    return score.square() / (distance + EPSILON)

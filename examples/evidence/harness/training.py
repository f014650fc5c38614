"""Training and judging a classifier."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from .digits import Digits


def train(
    model: nn.Module,
    data: Digits,
    *,
    steps: int,
    seed: int,
    rate: float = 1e-3,
    batch: int = 64,
    optimizer: torch.optim.Optimizer | None = None,
) -> None:
    """Train on batches drawn by the seed, with Adam at a rate where no optimizer is given."""
    if optimizer is None:
        optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    generator = torch.Generator().manual_seed(seed)
    model.train()
    for _ in range(steps):
        chosen = torch.randint(len(data.inputs), (batch,), generator=generator)
        loss = F.cross_entropy(model(data.inputs[chosen]), data.labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, data: Digits) -> float:
    """Give the share of test pictures that are told right, in percent."""
    right = model(data.test_inputs).argmax(1) == data.test_labels
    return 100 * right.double().mean().item()


@torch.no_grad()
def r_squared(given: torch.Tensor, wanted: torch.Tensor) -> float:
    """Give the share of the variance of ``wanted`` that ``given`` explains."""
    residual = (given - wanted).double().square().sum()
    total = (wanted - wanted.mean(0)).double().square().sum()
    return 1 - (residual / total).item()

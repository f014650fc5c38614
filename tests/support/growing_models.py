"""Small models with nodes in them."""

from __future__ import annotations

from typing import Any

import torch
from small_models import seeded
from torch import nn

import bioconvert as bc

ROWS = torch.linspace(-1, 1, 12).view(3, 4)


def wrapping(path: str | list[str], **options: Any) -> dict[str, Any]:
    """Give rules that make nodes of the modules on a path."""
    return {"version": 1, "rules": [{"match": {"path": path}, "wrap": options}]}


class Residual(nn.Module):
    """Three layers, the middle one a block that works in place on what it is given."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(4, 4)
        self.block = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 4))
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        """Pass x through all."""
        return self.head(self.block(self.stem(x)))


def growing(path: str = "block", **options: Any) -> nn.Module:
    """Give the model with a node."""
    return bc.convert(seeded(Residual), wrapping(path, **options))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, scheduler: Any = None) -> None:
    """Do some steps on fixed data."""
    for _ in range(steps):
        optimizer.zero_grad()
        model(ROWS).square().sum().backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()

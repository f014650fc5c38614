"""Networks put together from nodes, for the tests of organisms."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from bioconvert.organism import DnoConfig, DynamicNetwork

ROWS = torch.linspace(-1, 1, 12).view(3, 4)


class Counting(nn.Module):
    """Gives its input times a factor, and counts its calls."""

    def __init__(self, factor: float = 1.0):
        super().__init__()
        self.factor = factor
        self.calls = 0

    def forward(self, x):
        """Multiply."""
        self.calls += 1
        return x * self.factor


def linear(inputs: int = 4, outputs: int = 4) -> nn.Linear:
    """Give a layer with the same numbers every time."""
    layer = nn.Linear(inputs, outputs)
    with torch.no_grad():
        for parameter in layer.parameters():
            values = torch.linspace(-0.7, 0.9, parameter.numel()).roll(inputs + outputs)
            parameter.copy_(values.view_as(parameter))
    return layer


def diamond(**config: Any) -> DynamicNetwork:
    """Give a network that parts after its stem and meets again before its head."""
    network = DynamicNetwork(config=DnoConfig(**config))
    network.add_layer(linear(), name="stem")
    network.add_layer(nn.Sequential(nn.ReLU(inplace=True), linear()), ["stem"], name="left")
    network.add_layer(nn.Sequential(linear(), nn.Tanh()), ["stem"], name="right")
    network.add_layer(linear(4, 2), ["left", "right"], name="head")
    return network


def open_gates(network: nn.Module, value: float = 0.5) -> nn.Module:
    """Let every branch count."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith(".gate"):
                parameter.fill_(value)
    return network


def train(network: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    """Do some steps on fixed data."""
    for _ in range(steps):
        optimizer.zero_grad()
        network(ROWS).square().sum().backward()
        optimizer.step()

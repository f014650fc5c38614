"""A layer of every kind that something replaces, importable by name, in a model that gives it neighbours."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

KINDS: Mapping[str, Callable[[], nn.Module]] = {
    "Linear": lambda: nn.Linear(40, 40),
    "Conv1d": lambda: nn.Conv1d(16, 32, 5),
    "Conv2d": lambda: nn.Conv2d(16, 32, 3),
    "Conv3d": lambda: nn.Conv3d(8, 16, 3),
    "ConvTranspose1d": lambda: nn.ConvTranspose1d(16, 32, 5),
    "ConvTranspose2d": lambda: nn.ConvTranspose2d(16, 32, 3),
    "ConvTranspose3d": lambda: nn.ConvTranspose3d(8, 16, 3),
    "Embedding": lambda: nn.Embedding(100, 40),
    "MultiheadAttention": lambda: nn.MultiheadAttention(32, 4),
    "RNN": lambda: nn.RNN(32, 32, 2),
    "LSTM": lambda: nn.LSTM(32, 32, 2),
    "GRU": lambda: nn.GRU(32, 32, 2),
    "RNNCell": lambda: nn.RNNCell(32, 32),
    "LSTMCell": lambda: nn.LSTMCell(32, 32),
    "GRUCell": lambda: nn.GRUCell(32, 32),
}
"""Layers whose tensors take more than the few KiB that stay in memory anyway, by the name of their class."""


class Natural(nn.Module):
    """One layer of a kind, and what may stand around it.

    Args:
        kind: name of its class.
    """

    def __init__(self, kind: str):
        super().__init__()
        self.before = nn.Sequential(nn.Linear(40, 40), nn.ReLU())
        self.layer = KINDS[kind]()
        self.after = nn.Sequential(nn.ReLU(), nn.Linear(40, 40))

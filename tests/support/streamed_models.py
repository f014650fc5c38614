"""Models that a checkpoint can be streamed into, importable by name."""

from __future__ import annotations

import torch
from torch import nn


class Blocks(nn.Module):
    """Convolution, normalisation, attention, recurrence, a tie: of everything a little."""

    def __init__(self, width: int = 48):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.body = nn.Sequential(nn.Conv2d(width, width, 3), nn.BatchNorm2d(width), nn.ReLU())
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.cell = nn.LSTM(width, width, batch_first=True)
        self.words = nn.Embedding(100, width)
        self.hidden = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))
        self.head = nn.Linear(width, 100)
        self.head.weight = self.words.weight
        self.register_buffer("scale", torch.ones(3), persistent=False)

    def forward(self, image: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """Run."""
        seen = self.body(torch.relu(self.norm(self.stem(image)))).mean((2, 3))
        told, _ = self.cell(self.words(words))
        told, _ = self.attention(told, told, told)
        return self.head(self.hidden(told.mean(1) + seen))

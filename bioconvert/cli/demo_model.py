"""The network of ``bioconvert demo``, importable, so that ``--arch`` can name it."""

from __future__ import annotations

from torch import Tensor, nn


class DigitsCNN(nn.Module):
    """Tells the ten digits apart: a convolutional stem, two convolutional blocks and a linear head.

    Shape:
        - Input: :math:`(N, 1, 8, 8)`.
        - Output: :math:`(N, 10)`, logits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = _block(1, 16)
        self.block1 = _block(16, 32)
        self.block2 = _block(32, 64)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(64 * 2 * 2, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Score images of 8×8 grey values in [0, 1]."""
        features = self.pool(self.block1(self.stem(images)))
        features = self.pool(self.block2(features))
        logits: Tensor = self.head(features.flatten(1))
        return logits


def _block(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.ReLU())

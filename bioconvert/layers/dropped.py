"""What an activation becomes when the layer before it has the non-linearity inside."""

from __future__ import annotations

import torch
from torch import nn

from bioconvert.core.registry import layer


@layer
class Dropped(nn.Module):
    """Gives its input back: a module that the model still calls and that has nothing left to do."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Give ``input`` back as it is."""
        return input

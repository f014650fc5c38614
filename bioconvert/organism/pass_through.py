"""What stands for a layer that can't be made: its input, cut or filled up to the width of its output."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from bioconvert.core.errors import OptionError


class PassThrough(nn.Module):
    """Gives its input, with the last dimension cut or filled up with zeros.

    Args:
        in_features: size :math:`F` of the input's last dimension.
        out_features: size :math:`K` of the output's last dimension.

    Shape:
        - Input: :math:`(*, F)`.
        - Output: :math:`(*, K)`.

    Example:
        >>> PassThrough(2, 3)(torch.ones(1, 2))
        tensor([[1., 1., 0.]])
    """

    def __init__(self, in_features: int, out_features: int):
        super().__init__()
        if in_features < 1 or out_features < 1:
            raise OptionError(f"sizes must be at least 1, not {in_features} and {out_features}")
        self.in_features = in_features
        self.out_features = out_features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Cut or fill up."""
        return functional.pad(x, (0, self.out_features - self.in_features))

    def extra_repr(self) -> str:
        """Name the sizes."""
        return f"{self.in_features}, {self.out_features}"

"""Noise while training, as modules."""

from __future__ import annotations

import torch
from torch import fx, nn

from bioconvert.core.registry import layer
from bioconvert.functional.noise import check_rate, noisein, noiseover

# Leaves in a user's own symbolic_trace: how many features to replace is a number, which a trace doesn't know.
fx.wrap("noisein")
fx.wrap("noiseover")


class _Noise(nn.Module):
    def __init__(self, rate: float):
        check_rate(rate)
        super().__init__()
        self.rate = rate

    def extra_repr(self) -> str:
        """Show the rate."""
        return f"rate={self.rate}"


@layer
class NoiseIn(_Noise):
    r"""Replaces some features of each sample, chosen by chance, with noise, while training.

    .. math::
        y_i = x_i + (-x_i + \eta_i) \text{ for } \lfloor r n \rfloor \text{ of the } n \text{ features}, \quad
        \eta_i \sim \mathcal N(\operatorname{mean}(x), \operatorname{std}(x)^2)

    What is in parentheses counts as a constant: the gradient passes straight through.

    Args:
        rate: :math:`r`, from 0 to 1.

    Shape:
        - Input: any; samples :math:`x` lie along the first dimension.
        - Output: that of the input.

    Raises:
        ValueError: ``rate`` is out of its bounds.

    Example:
        >>> NoiseIn(0.5).eval()(torch.ones(2))
        tensor([1., 1.])
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Give ``input`` with noise, or as it is when not training."""
        return noisein(input, self.rate) if self.training else input


@layer
class NoiseOver(_Noise):
    r"""Adds noise to every feature, while training.

    .. math::
        y_i = x_i + r \, \eta_i, \quad \eta_i \sim \mathcal N(\operatorname{mean}(x), \operatorname{std}(x)^2)

    The noise counts as a constant: the gradient passes straight through.

    Args:
        rate: :math:`r`, from 0 to 1.

    Shape:
        - Input: any; samples :math:`x` lie along the first dimension.
        - Output: that of the input.

    Raises:
        ValueError: ``rate`` is out of its bounds.

    Example:
        >>> NoiseOver(0.5).eval()(torch.ones(2))
        tensor([1., 1.])
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Give ``input`` with noise, or as it is when not training."""
        return noiseover(input, self.rate) if self.training else input

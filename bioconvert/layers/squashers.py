"""The squashers of non-negative scores as modules."""

from __future__ import annotations

import torch
from torch import fx, nn

from bioconvert.core.registry import layer
from bioconvert.functional.squashers import soft_tanh, softer_sigmoid, softermax

# Leaves in a user's own symbolic_trace: what is inside looks at types, which a trace doesn't know.
fx.wrap("soft_tanh")
fx.wrap("softer_sigmoid")
fx.wrap("softermax")


@layer
class Softermax(nn.Module):
    r"""Shares out 1 among non-negative scores, in proportion to a power of each.

    .. math::
        y_i = \frac{x_i^n}{\varepsilon + \sum_j x_j^n}

    Args:
        n: :math:`n > 0`; the larger, the more goes to the largest.
        epsilon: :math:`\varepsilon`; scores that are all 0 give 0.
        dim: the dimension along which the shares add up to 1.

    Shape:
        - Input: any; negative scores count as 0.
        - Output: that of the input.

    Example:
        >>> Softermax()(torch.tensor([1.0, 1.0, 2.0]))
        tensor([0.2500, 0.2500, 0.5000])
    """

    def __init__(self, n: float = 1.0, epsilon: float = 1e-12, dim: int = -1):
        _check(n)
        if not epsilon > 0:
            raise ValueError(f"epsilon must be positive, got {epsilon!r}")
        super().__init__()
        self.n, self.epsilon, self.dim = n, epsilon, dim

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Give the shares of the scores ``input``."""
        return softermax(input, self.n, self.epsilon, self.dim)

    def extra_repr(self) -> str:
        """Show the options."""
        return f"n={self.n}, epsilon={self.epsilon}, dim={self.dim}"


@layer
class SofterSigmoid(nn.Module):
    r"""Brings non-negative scores into [0, 1); 1 goes to one half.

    .. math::
        y = \frac{x^n}{1 + x^n}

    Args:
        n: :math:`n > 0`; the larger, the steeper at 1.

    Shape:
        - Input: any; negative scores count as 0.
        - Output: that of the input.

    Example:
        >>> SofterSigmoid()(torch.tensor([0.0, 1.0, 3.0]))
        tensor([0.0000, 0.5000, 0.7500])
    """

    def __init__(self, n: float = 1.0):
        _check(n)
        super().__init__()
        self.n = n

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Squash the scores ``input``."""
        return softer_sigmoid(input, self.n)

    def extra_repr(self) -> str:
        """Show the power."""
        return f"n={self.n}"


@layer
class SoftTanh(nn.Module):
    r"""Brings non-negative scores into [-1, 1); 1 goes to 0.

    .. math::
        y = \frac{x^n - 1}{x^n + 1}

    Args:
        n: :math:`n > 0`; the larger, the steeper at 1.

    Shape:
        - Input: any; negative scores count as 0.
        - Output: that of the input.

    Example:
        >>> SoftTanh()(torch.tensor([0.0, 1.0, 3.0]))
        tensor([-1.0000,  0.0000,  0.5000])
    """

    def __init__(self, n: float = 1.0):
        _check(n)
        super().__init__()
        self.n = n

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Squash the scores ``input``."""
        return soft_tanh(input, self.n)

    def extra_repr(self) -> str:
        """Show the power."""
        return f"n={self.n}"


def _check(n: float) -> None:
    if not n > 0:
        raise ValueError(f"n must be positive, got {n!r}")

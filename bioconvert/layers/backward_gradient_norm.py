"""The normalisation of gradients as a module."""

from __future__ import annotations

import torch
from torch import fx, nn

from bioconvert.core.registry import layer
from bioconvert.functional.signals import backward_gradient_normalization

# A leaf in a user's own symbolic_trace, which would lose the backward pass.
fx.wrap("backward_gradient_normalization")


@layer
class BackwardGradientNorm(nn.Module):
    r"""Gives the input as it is; going backward, brings the gradient of each sample to unit mean square.

    .. math::
        y = x, \qquad
        \bar x_b = \bar y_b \, \frac{\sqrt n}{\lVert \bar y_b \rVert_2 + \varepsilon}

    The output shares the input's memory, and autograd refuses to change it in place: an activation that
    follows needs ``inplace=False``.

    Args:
        eps: :math:`\varepsilon`; a gradient of zero stays zero.

    Shape:
        - Input: any; samples lie along the first dimension.
        - Output: that of the input.

    Raises:
        ValueError: ``eps`` isn't positive.

    Reference:
        Cabana & Lago-Fernández, *Backward Gradient Normalization in Deep Neural Networks*,
        https://arxiv.org/abs/2106.09475

    Example:
        >>> x = torch.zeros(2, 4, requires_grad=True)
        >>> (5 * BackwardGradientNorm()(x)).sum().backward()
        >>> x.grad[0]
        tensor([1.0000, 1.0000, 1.0000, 1.0000])
    """

    def __init__(self, eps: float = 1e-6):
        if not eps > 0:
            raise ValueError(f"eps must be positive, got {eps!r}")
        super().__init__()
        self.eps = eps

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Give ``input``."""
        return backward_gradient_normalization(input, self.eps)

    def extra_repr(self) -> str:
        """Show the epsilon."""
        return f"eps={self.eps}"

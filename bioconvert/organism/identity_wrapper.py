"""A node that gives its input, plus what it learns to add to it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from bioconvert.core.errors import OptionError
from bioconvert.organism.evolvable import BaseEvolvableModule


class IdentityWrapper(BaseEvolvableModule):
    r"""Adds a module's output to its input, behind a gate that is closed at first.

    .. math::
        y = x + \gamma \, f(x), \qquad \gamma = 0 \text{ at first}

    Args:
        child_module: the module :math:`f`, which keeps the shape.
        creation_step: the step of its birth.

    Shape:
        - Input: :math:`(*)`.
        - Output: the same shape.
        - ``gamma``, :math:`\gamma`: (1).

    Example:
        >>> x = torch.ones(2, 4)
        >>> torch.equal(IdentityWrapper(nn.Linear(4, 4))(x), x)
        True
    """

    def __init__(self, child_module: nn.Module, creation_step: int = 0):
        super().__init__(child_module, creation_step)
        like = next((p for p in child_module.parameters() if p.is_floating_point()), None)
        self.gamma = nn.Parameter(torch.zeros(1) if like is None else like.detach().new_zeros(1))

    def compute(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Add what the module gives, which may work in place."""
        added = self.child_module(x.clone(), *args, **kwargs)
        if added.shape != x.shape:
            raise OptionError(
                f"what an IdentityWrapper holds must keep the shape: it makes {tuple(added.shape)} of "
                f"{tuple(x.shape)}"
            )
        y: torch.Tensor = x + self.gamma.to(added.dtype) * added
        return y

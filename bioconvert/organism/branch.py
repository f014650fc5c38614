"""A branch beside a node: a clone of it behind a gate that is closed at birth."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from bioconvert.core.errors import OptionError
from bioconvert.organism.caches import own_caches
from bioconvert.organism.calls import runner
from bioconvert.organism.merging import first_floating, fresh_arguments
from bioconvert.organism.recording import run_unrecorded
from bioconvert.organism.untouched import is_left_untouched


class Branch(nn.Module):
    r"""Gives what is added to its parent's output.

    .. math::
        \gamma \, f(x)

    Args:
        block: the module :math:`f`.

    Shape:
        - Input: whatever the block takes; it is copied where the block may work in place.
        - Output: the first tensor of floating numbers in the block's output.
        - ``gate``, :math:`\gamma`: (1), zero at birth.

    Raises:
        OptionError: the block's output holds no tensor of floating numbers.

    Example:
        >>> Branch(nn.Linear(4, 2))(torch.ones(3, 4)).abs().sum().item()
        0.0
    """

    def __init__(self, block: nn.Module):
        super().__init__()
        self.block = block
        tensors = (*block.parameters(), *block.buffers())
        like = next((each for each in tensors if each.is_floating_point()), None)
        self.gate = nn.Parameter(torch.zeros(1) if like is None else like.detach().new_zeros(1))
        self.train(block.training)

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Run the block on the arguments, or on copies where what the block does to them may be noticed."""
        # Past the search for an attribute, which costs a small block as much as a multiplication.
        block, gate = self._modules["block"], self._parameters.get("gate")
        assert block is not None
        run = runner(block)
        if not is_left_untouched(run):
            args, kwargs = own_caches(args, kwargs, block)
            args, kwargs = fresh_arguments(args), fresh_arguments(kwargs) if kwargs else kwargs
        y = first_floating(run_unrecorded(run, args, kwargs))
        if y is None:
            raise OptionError(f"{type(block).__name__} gives no tensor of floating numbers to add to")
        if gate is None:
            # Parametrized, or replicated by DataParallel.
            gate = self.gate
        return (gate if gate.dtype is y.dtype else gate.to(y.dtype)) * y

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        # A checkpoint from before the branch was born leaves it as it is.
        if not any(name.startswith(prefix) for name in state_dict):
            state_dict.update({prefix + name: value for name, value in self.state_dict().items()})
        super()._load_from_state_dict(state_dict, prefix, *rest)

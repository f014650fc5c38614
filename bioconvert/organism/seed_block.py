"""A node to begin with: two linear layers, of which each may be frozen for good."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from bioconvert.core.errors import OptionError
from bioconvert.core.suggest import hint
from bioconvert.organism.evolvable import BaseEvolvableModule


class SeedBlock(BaseEvolvableModule):
    r"""A perceptron with one hidden layer.

    .. math::
        y = W_2 \max(W_0 x + b_0, 0) + b_2

    Its parts, ``"0"`` and ``"2"``, can be frozen one by one; what grows from it inherits that.

    Args:
        creation_step: the step of its birth.
        input_dim: size :math:`F` of the last dimension of input and output.
        hidden_dim: number of units in between.

    Shape:
        - Input: :math:`(*, F)`.
        - Output: :math:`(*, F)`.

    Example:
        >>> block = SeedBlock(input_dim=4, hidden_dim=8)
        >>> block.apply_mask({"0": True})
        >>> [name for name, parameter in block.named_parameters() if parameter.requires_grad]
        ['child_module.2.weight', 'child_module.2.bias']
    """

    def __init__(self, creation_step: int = 0, input_dim: int = 64, hidden_dim: int = 128):
        layers = nn.Linear(input_dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, input_dim)
        super().__init__(nn.Sequential(*layers), creation_step)
        self.mask_config: dict[str, bool] = {}

    def apply_mask(self, config: Mapping[str, bool]) -> None:
        """Freeze parts, or let them learn again.

        Args:
            config: whether each part that is named, as ``"0"`` or ``"layer_0"``, is frozen.

        Raises:
            OptionError: there is no such part; nothing is changed.
        """
        named = {name.removeprefix("layer_"): frozen for name, frozen in config.items()}
        parts = dict(self.child_module.named_children())
        for name in named:
            if name not in parts:
                raise OptionError(f"a SeedBlock has no part {name!r}. {hint(name, parts)}")
        for name, frozen in named.items():
            parts[name].requires_grad_(not frozen)
        self.mask_config.update(named)

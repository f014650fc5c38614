"""A layer whose weight is a sum of several synapses, and one that pools its outputs in groups."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from bioconvert.core.registry import layer

POOLED_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "none": lambda x: x,
    "relu": F.relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}
"""The functions of which one may come before the outputs are pooled, by name."""


@layer
class SplitSynapses(nn.Module):
    r"""Computes with a weight that is the sum of :math:`\Gamma` synapses, each a weight of its own.

    .. math::
        w = \sum_{\gamma = 1}^{\Gamma} w_\gamma

    A mixin, to stand before the class of a layer whose forward reads ``weight``, which is this sum then. It
    needs the parameter ``synapses`` and nothing else, so that an existing layer becomes one by a change of
    its class. The parameter ``weight`` that the layer had remains, is trained no more, and has the sum's
    value as of the last step of a bound optimizer.

    Shape:
        - ``synapses``: :math:`(\Gamma, *)`, where :math:`*` is the weight's shape.

    Example:
        >>> import bioconvert as bc
        >>> rule = {"match": {"type": "linear"}, "attach": [{"weight_splitting": {"synapses": 3}}]}
        >>> layer = bc.convert(nn.Linear(4, 2), {"version": 1, "rules": [rule]})
        >>> layer.synapses.shape, bool(torch.allclose(layer.weight, layer.synapses.sum(0)))
        (torch.Size([3, 2, 4]), True)
    """

    synapses: torch.Tensor

    @property
    def weight(self) -> torch.Tensor:
        """The sum of the synapses."""
        return self.synapses.sum(0)


@layer
class PooledOutputs(nn.Module):
    r"""Adds up the outputs of each :math:`\Gamma` units in a row, and gives each of them the sum.

    .. math::
        y_i = \sum_{j \,\in\, \text{group of } i} \phi(z_j)

    A mixin, to stand before the class of a linear or convolutional layer, whose output is :math:`z`.

    Args:
        pool_size: :math:`\Gamma`, an attribute of the instance.
        pool_activation: name of :math:`\phi`, likewise.
        pool_axis: the dimension of the output along which the units lie, likewise.
    """

    pool_size: int
    pool_activation: str
    pool_axis: int

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Compute what the layer does, and pool it."""
        output = POOLED_ACTIVATIONS[self.pool_activation](super().forward(*args, **kwargs))
        groups = output.movedim(self.pool_axis, -1).unflatten(-1, (-1, self.pool_size))  # type: ignore[no-untyped-call]
        pooled: torch.Tensor = groups.sum(-1, keepdim=True).expand_as(groups).flatten(-2)
        return pooled.movedim(-1, self.pool_axis)

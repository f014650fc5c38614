"""A layer whose weight is a sum of several synapses, and one that pools its outputs in groups."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from bioconvert.core.errors import OptionError
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
    its class. The parameter ``weight`` that the layer had remains and is trained no more. It has the sum's
    value as of the last step of a bound optimizer, or the last ``state_dict``, whichever was later.

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

    def leave(self, *, for_good: bool) -> None:
        """Let the weight have the sum's value, for the class that takes over."""
        del for_good
        _refresh(self)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        _refresh(self)
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        is_of_plain_layer = f"{prefix}weight" in state_dict and f"{prefix}synapses" not in state_dict
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        if is_of_plain_layer:
            _share_out(self)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "weight" and hasattr(value, "placements"):
            raise OptionError(
                "fully_shard can't shard a layer with split synapses, whose weight is their sum: leave "
                "weight_splitting out, or train in replicas (DistributedDataParallel)"
            )
        super().__setattr__(name, value)


@torch.no_grad()
def _refresh(layer: nn.Module) -> None:
    """Let the parameter ``weight`` be the sum; to the bit what it was where that is so but for rounding."""
    synapses, weight = _both(layer)
    total = synapses.sum(0)
    rounding = synapses.abs().sum(0).mul_(len(synapses) * torch.finfo(synapses.dtype).eps)
    weight.copy_(torch.where((total - weight).abs_() <= rounding, weight, total))


@torch.no_grad()
def _share_out(layer: nn.Module) -> None:
    """Move the synapses alike, so that their sum is the parameter ``weight``."""
    synapses, weight = _both(layer)
    synapses.add_((weight - synapses.sum(0)) / len(synapses))


def _both(layer: nn.Module) -> tuple[nn.Parameter, nn.Parameter]:
    synapses, weight = layer._parameters["synapses"], layer._parameters["weight"]
    assert synapses is not None
    assert weight is not None
    return synapses, weight


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

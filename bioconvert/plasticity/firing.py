"""How often the units of a layer fire, watched while it is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from bioconvert.core.families import family_root
from bioconvert.plasticity.watching import Watcher


def unit_axis(module: nn.Module, parameter: str) -> int | None:
    """Give the dimension of a weight along which each index belongs to one unit of the layer's output.

    ``None`` where there is none: in recurrent and attention layers, and in grouped transposed convolutions.
    """
    if parameter != "weight":
        return None
    if family_root(type(module), "conv") is not None:
        convolution: Any = module
        if not convolution.transposed:
            return 0
        return 1 if convolution.groups == 1 else None
    if isinstance(module, (nn.Linear, nn.Bilinear)):
        return 0
    transposed = family_root(type(module), "linear") or family_root(type(module), "embedding")
    return 1 if transposed else None


def output_axis(module: nn.Module) -> int:
    """Give the dimension of a layer's output that its units lie along, counted from the last."""
    if family_root(type(module), "conv") is None:
        return -1
    return 1 - cast(torch.Tensor, module.weight).dim()


@dataclass(frozen=True)
class FiringWatch(Watcher):
    """A forward hook that keeps a running average of how often each unit fires.

    Args:
        buffer: name of the module's buffer that holds the average.
        axis: the dimension of the output that the units lie along.
        threshold: a unit fires where its output is greater.
        memory: the share of the average that one call of the layer leaves.
    """

    buffer: str
    axis: int
    threshold: float
    memory: float

    def __call__(self, module: nn.Module, args: Any, output: torch.Tensor) -> None:
        """Take note of one call, while training."""
        del args
        if not (module.training and torch.is_grad_enabled()) or not output.numel():
            return
        average = module._buffers[self.buffer]
        assert average is not None
        fired = (output.detach() > self.threshold).movedim(self.axis, -1).flatten(0, -2)
        average.lerp_(fired.mean(0, dtype=average.dtype), 1 - self.memory)


def by_unit(values: torch.Tensor, run: int, start: int, count: int) -> torch.Tensor:
    """Give one value a unit as one value for each of some weights.

    Args:
        values: one for each unit.
        run: number of weights in a row, as they lie in memory, that belong to one unit.
        start: the first weight.
        count: number of weights.
    """
    first, last = start // run, -(-(start + count) // run)
    units = torch.arange(first, last, device=values.device).remainder_(len(values))
    repeated = values[units][:, None].expand(-1, run).reshape(-1)
    return repeated[start - first * run :][:count]

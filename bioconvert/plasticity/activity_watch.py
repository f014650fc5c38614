"""How active the units of a layer are, watched while it is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bioconvert.plasticity.firing import output_axis
from bioconvert.plasticity.watching import Watcher


@dataclass(frozen=True)
class ActivityWatch(Watcher):
    """A forward hook that keeps a running mean of the positive part of each unit's output, and a target.

    Over the first calls all count alike, and their mean becomes the target; after that the mean forgets.

    Args:
        buffers: names of the module's buffers of the mean, of the target and of the number of calls.
        window: number of calls over which the target is measured; 0 where it is given.
        memory: number of calls over which the mean forgets.
    """

    buffers: tuple[str, str, str]
    window: int
    memory: int

    def __call__(self, module: nn.Module, args: Any, output: torch.Tensor) -> None:
        """Take note of one call, while training."""
        del args
        if not (module.training and torch.is_grad_enabled()) or not output.numel():
            return
        activity, target, calls = (_buffer(module, name) for name in self.buffers)
        by_unit = output.detach().movedim(output_axis(module), -1).flatten(0, -2)
        active = by_unit.clamp_min(0).mean(0, dtype=activity.dtype)
        calls.add_(1)
        measuring = calls <= self.window
        activity.add_((active - activity) / torch.where(measuring, calls, calls.clamp_max(self.memory)))
        target.copy_(torch.where(measuring, activity, target))


def _buffer(module: nn.Module, name: str) -> torch.Tensor:
    found = module._buffers[name]
    assert found is not None
    return found

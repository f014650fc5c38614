"""How far morphing layers and fading activations have come: a count of steps in a buffer of each."""

from __future__ import annotations

import torch
from torch import nn

from bioconvert.graph.classes import STEPS
from bioconvert.graph.edits import FADE_STEP


def counter_of(module: nn.Module) -> torch.Tensor | None:
    """Give the buffer that counts a module's steps, if it is on its way."""
    counter = module._buffers.get(FADE_STEP)
    counted = any(FADE_STEP in step.added for step in vars(module).get(STEPS, ()))
    return counter if counted else None


@torch.no_grad()
def count_step(module: nn.Module) -> None:
    """Let a module that is on its way go one step further; leave any other alone."""
    counter = counter_of(module)
    if counter is not None:
        counter.add_(1)

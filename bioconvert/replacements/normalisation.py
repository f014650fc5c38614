"""What a normalisation does in evaluation, and how a layer holds its weight."""

from __future__ import annotations

import torch
from torch import nn

from bioconvert.core.errors import Refused


def affine_of(norm: nn.Module | None, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Give slope and shift of what a normalisation does to each unit in evaluation.

    Raises:
        Refused: it has no running statistics, so that what it does depends on the batch.
    """
    if norm is None:
        return torch.ones_like(like), torch.zeros_like(like)
    mean, variance = getattr(norm, "running_mean", None), getattr(norm, "running_var", None)
    if mean is None or variance is None:
        raise Refused(f"{type(norm).__name__} between it and its activation has no running statistics")
    weight, bias = getattr(norm, "weight", None), getattr(norm, "bias", None)
    slope = (variance.double() + float(getattr(norm, "eps", 0.0))).rsqrt()
    slope = slope * weight.detach().double() if weight is not None else slope
    shift = -mean.double() * slope
    return slope, shift + bias.detach().double() if bias is not None else shift


def lets_through(slope: torch.Tensor) -> torch.Tensor:
    """Say which units a normalisation of this slope lets through, unlike those that it silences."""
    return slope.abs() > 1e-6 * slope.abs().max()


def is_transposed(layer: nn.Module) -> bool:
    """Say whether a linear layer keeps its weight as [in, out], as transformers' ``Conv1D`` does."""
    return not isinstance(layer, (nn.Linear, nn.modules.conv._ConvNd))

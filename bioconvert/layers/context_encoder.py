"""From whatever a context comes from to the context: a mean over positions, and a small encoder."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch.nn import functional as F

from bioconvert.functional.precision import score_dtype

Channels = Literal["auto", "first", "last"]
"""Where a source has its channels: in dimension 1, in the last, or wherever its shape suggests."""


def encoded(
    source: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, channels: Channels = "auto"
) -> torch.Tensor:
    r"""Make a context out of a source.

    .. math::
        c_n = \tanh(V s_n + v)

    Args:
        source: its mean over all but samples and channels is :math:`s_n`, resized by averaging
            neighbours where it is not of the encoder's width.
        weight: :math:`V`.
        bias: :math:`v`.
        channels: where the channels of the source are.

    Shape:
        - ``source``: :math:`(N, F, *)` or :math:`(N, *, F)`.
        - ``weight``: :math:`(L, F)`; ``bias``: :math:`(L)`.
        - Output: :math:`(N, L)`.

    Raises:
        TypeError: the source is not of floating point.
        ValueError: it has less than two dimensions.
    """
    summary = summarised(source, weight.shape[1], channels)
    return torch.tanh(F.linear(summary.to(weight.dtype), weight, bias))


def summarised(source: torch.Tensor, features: int, channels: Channels = "auto") -> torch.Tensor:
    """Bring a source to [N, features] by means over positions and, if need be, over neighbouring channels.

    Raises:
        TypeError: the source is not of floating point.
        ValueError: it has less than two dimensions.
    """
    if not source.is_floating_point():
        raise TypeError(
            f"a context must come from numbers of floating point, got {source.dtype}: take the output of an "
            "embedding for one"
        )
    if source.dim() < 2:
        raise ValueError(f"a context's source must have samples and channels, got shape {[*source.shape]}")
    last = channels == "last" or (channels == "auto" and _is_last(source, features))
    positions = tuple(range(1, source.dim() - 1) if last else range(2, source.dim()))
    summary = _mean(source, positions) if positions else source
    if summary.shape[1] == features:
        return summary
    return F.adaptive_avg_pool1d(summary.unsqueeze(1), features).squeeze(1)


def _mean(source: torch.Tensor, positions: tuple[int, ...]) -> torch.Tensor:
    """Give the mean as a sum, divided behind it: its gradient is spread without a pass over memory."""
    count = math.prod([source.shape[position] for position in positions])
    return source.sum(positions, dtype=score_dtype(source)) / count


def _is_last(source: torch.Tensor, features: int) -> bool:
    """Guess from the encoder's width or, where that tells nothing, that three dimensions are tokens."""
    first, last = source.shape[1] == features, source.shape[-1] == features
    return source.dim() == 3 if first == last else last

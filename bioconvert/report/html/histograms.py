"""How the weights of a layer are distributed, before and after."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bioconvert.report.text import short

if TYPE_CHECKING:
    from bioconvert.report.html.evidence import Weights

SHOWN = 60
"""Histograms at most."""
BINS = 40


@dataclass(frozen=True, slots=True)
class Moments:
    """Numbers of one set of values; of the finite ones but for the last.

    Args:
        mean: their mean.
        deviation: their standard deviation.
        zeros: the share of zeros.
        not_finite: the share of NaN and infinities.
    """

    mean: float
    deviation: float
    zeros: float
    not_finite: float


@dataclass(frozen=True, slots=True)
class Histogram:
    """The distribution of a tensor's values.

    Args:
        path: dotted name of the tensor.
        count: number of values that it has.
        sampled: number of them that were looked at.
        low: left end of the first bin.
        high: right end of the last bin.
        new: share of the values in each bin.
        original: likewise, of the original's; ``None`` where conversion left the tensor as it was.
        moments: numbers of the values.
        original_moments: likewise, of the original's.
    """

    path: str
    count: int
    sampled: int
    low: float
    high: float
    new: tuple[float, ...]
    original: tuple[float, ...] | None
    moments: Moments
    original_moments: Moments | None


def histograms_of(weights: Iterable[Weights]) -> tuple[Histogram, ...]:
    """Give the distributions of some tensors' values."""
    return tuple(_histogram(each) for each in list(weights)[:SHOWN])


def _histogram(weights: Weights) -> Histogram:
    new = _finite(weights.new)
    original = None if weights.original is None else _finite(weights.original)
    both = new if original is None else np.concatenate([new, original])
    low, high = (float(both.min()), float(both.max())) if both.size else (0.0, 0.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    name = ".".join(part for part in (weights.path, weights.name) if part)
    return Histogram(
        short(name),
        weights.count,
        int(weights.new.size),
        low,
        high,
        _shares(new, low, high),
        None if original is None else _shares(original, low, high),
        _moments(weights.new),
        None if weights.original is None else _moments(weights.original),
    )


def _finite(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float64).reshape(-1)
    kept: np.ndarray = values[np.isfinite(values)]
    return kept


def _shares(values: np.ndarray, low: float, high: float) -> tuple[float, ...]:
    if not values.size:
        return (0.0,) * BINS
    # In units of the range: numpy refuses bins that are finer than the numbers themselves.
    placed = np.clip(((values - low) / (high - low) * BINS).astype(np.int64), 0, BINS - 1)
    counts = np.bincount(placed, minlength=BINS)
    return tuple(float(round(share, 6)) for share in counts / values.size)


def _moments(values: np.ndarray) -> Moments:
    finite = _finite(values)
    if not finite.size:
        return Moments(0.0, 0.0, 0.0, float(values.size > 0))
    return Moments(
        float(finite.mean()),
        float(finite.std()),
        float((finite == 0).mean()),
        1.0 - finite.size / values.size,
    )

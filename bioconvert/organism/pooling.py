"""One row of features for each sample of a batch."""

from __future__ import annotations

import torch

PICTURE = 4
"""From this many dimensions on, features lie in the second one, as convolutions have them."""


def pooled(x: torch.Tensor, features: int | None = None) -> torch.Tensor:
    """Give one row of features for each sample: means over places in pictures, over steps in sequences.

    Args:
        x: (N, F), (N, *, F), or (N, F, *, *) of four dimensions or more.
        features: F, which tells where it is in what doesn't look like that.
    """
    if x.ndim == 2:
        return x
    first = x.ndim >= PICTURE if features is None else x.shape[-1] != features or _both(x, features)
    places = tuple(range(2, x.ndim)) if first else tuple(range(1, x.ndim - 1))
    return x.mean(places)


def _both(x: torch.Tensor, features: int) -> bool:
    return x.ndim >= PICTURE and x.shape[1] == features

"""Scores and norms of vectors brought to unit length, without forming the vectors."""

from __future__ import annotations

import torch

_LEAST_NORM = 1e-12
"""Squared norm below which a vector counts as zero, whose cosine with everything is 0."""


def on_sphere(
    score: torch.Tensor, input_norm: torch.Tensor, weight_norm: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    r"""Turn a dot product into a cosine, and both squared norms into 1.

    .. math::
        t \mapsto \frac{t}{\lVert x \rVert \lVert w \rVert}
    """
    scale = input_norm.clamp(min=_LEAST_NORM).rsqrt()
    cosine = score * scale * weight_norm.clamp(min=_LEAST_NORM).rsqrt()
    return cosine, torch.ones_like(input_norm), torch.ones_like(weight_norm)

"""Numbers that tell how well a weight still can learn."""

from __future__ import annotations

import torch

from bioconvert.plasticity.shards import whole
from bioconvert.plasticity.synapses import Synapses

LARGEST = 2048
"""Of matrices that are larger on both sides no singular values are worked out: it would take seconds."""


@torch.no_grad()
def numbers_of(synapses: Synapses) -> dict[str, float]:
    """Give the general numbers of a weight, and those of its mechanisms under the mechanisms' names."""
    weight = whole(synapses.held)
    rows = weight.reshape(weight.shape[0], -1)
    zero = rows == 0
    numbers = {
        "zero weights": float(zero.float().mean()),
        "dead units": float(zero.all(1).float().mean()),
    }
    if min(rows.shape) <= LARGEST:
        numbers["effective rank"] = effective_rank(rows)
    for mechanism in synapses.mechanisms:
        reported = mechanism.report(synapses)
        numbers.update({f"{mechanism.name} {name}": float(value) for name, value in reported.items()})
    return numbers


def effective_rank(matrix: torch.Tensor) -> float:
    r"""Give :math:`\exp(-\sum_i p_i \ln p_i)` of the singular values :math:`p_i`, divided by their sum.

    Reference:
        Roy and Vetterli, *The effective rank: a measure of effective dimensionality*, EUSIPCO 2007.

    Example:
        >>> round(effective_rank(torch.eye(4)), 3)
        4.0
    """
    if not bool(matrix.isfinite().all()):
        return float("nan")
    matrix = matrix.double()
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    values = torch.linalg.eigvalsh(gram).clamp_min(0).sqrt()
    share = values / values.sum().clamp_min(torch.finfo(values.dtype).tiny)
    return float(torch.special.entr(share).sum().exp()) if bool(values.any()) else 0.0

"""The sums that ridge regression needs of its samples, and its solution: in fp64, the same on every rank."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import distributed

_STRENGTHS = tuple(10.0 ** (exponent / 2) for exponent in range(-16, 9))
"""What cross-validation chooses from, in units of the mean variance of an input."""
_CAUTION = 1.4
"""What a degree of freedom costs in cross-validation; with 1 it overfits now and then (Kim & Gu 2004)."""


@dataclass(frozen=True, slots=True)
class Solution:
    """What is to be added to a layer.

    Args:
        weight: to its weight, transposed: [inputs, outputs].
        bias: to its bias.
        before: the error without it, as a share of the variance of the outputs.
        after: the error with it.
        strength: that of the ridge, in units of the mean variance of an input.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    before: float
    after: float
    strength: float


class Moments:
    """Sums over samples of inputs, of errors that are to be explained by them, and of their products.

    Args:
        inputs: number of inputs.
        outputs: number of outputs.
        device: where they are.
    """

    def __init__(self, inputs: int, outputs: int, device: torch.device):
        def zeros(*shape: int) -> torch.Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        self.count = zeros(1)
        self.x, self.xx, self.xr = zeros(inputs), zeros(inputs, inputs), zeros(inputs, outputs)
        self.r, self.rr = zeros(outputs), zeros(outputs)
        self.z, self.zz = zeros(outputs), zeros(outputs)

    def add(self, x: torch.Tensor, given: torch.Tensor, wanted: torch.Tensor) -> None:
        """Add samples.

        Args:
            x: inputs, [n, inputs].
            given: the outputs as they are, [n, outputs].
            wanted: as they should be.
        """
        r = wanted - given
        self.count += len(x)
        self.x += x.sum(0)
        self.xx.addmm_(x.T, x)
        self.xr.addmm_(x.T, r)
        self.r += r.sum(0)
        self.rr += r.square().sum(0)
        self.z += wanted.sum(0)
        self.zz += wanted.square().sum(0)

    def gather(self) -> None:
        """Add up what all processes have seen, so that each finds the same."""
        if distributed.is_available() and distributed.is_initialized():
            for total in vars(self).values():
                distributed.all_reduce(total)

    def solve(self, strength: float | None, *, with_bias: bool) -> Solution:
        """Give what explains the errors best.

        Args:
            strength: that of the ridge; by default, the one with the least error in generalised
                cross-validation.
            with_bias: whether the means may be explained by a bias.
        """
        n = self.count
        x, r = self.x / n, self.r / n
        left = 1.0 if with_bias else 0.0
        values, vectors = torch.linalg.eigh(self.xx - left * n * torch.outer(x, x))
        values = values.clamp(min=0)
        shares = vectors.T @ (self.xr - left * n * torch.outer(x, r))
        error = (self.rr - left * n * r.square()).sum()
        unit = values.mean()
        if strength is None:
            strength = _chosen(values, shares.square().sum(1), error, float(n) - left)
        damped = values + strength * unit
        inverse = torch.where(damped > 0, 1 / damped, 0)
        weight = vectors @ (shares * inverse[:, None])
        after = error - (shares.square().sum(1) * (2 * inverse - values * inverse.square())).sum()
        variance = (self.zz - n * (self.z / n).square()).sum().clamp(min=torch.finfo(torch.float64).tiny)
        bias = left * (r - x @ weight)
        found = [float(each / variance) for each in (self.rr.sum(), after.clamp(min=0))]
        return Solution(weight, bias, found[0], found[1], strength)


def _chosen(values: torch.Tensor, shares: torch.Tensor, error: torch.Tensor, samples: float) -> float:
    r"""Choose the strength of a ridge by generalised cross-validation.

    .. math::
        \min_\lambda \frac{\mathrm{RSS}(\lambda)}{(n - 1.4 \, \mathrm{df}(\lambda))^2}

    Args:
        values: the eigenvalues of the inputs' scatter.
        shares: the squares of the errors' products with each eigenvector, summed over outputs.
        error: the sum of their squares.
        samples: how many there are, less one for a bias.
    """
    strengths = torch.tensor(_STRENGTHS, dtype=values.dtype, device=values.device)
    damped = values + strengths[:, None] * values.mean()
    inverse = torch.where(damped > 0, 1 / damped, 0)
    explained = (shares * (2 * inverse - values * inverse.square())).sum(1)
    left = samples - _CAUTION * (values * inverse).sum(1)
    score = torch.where(left > 0, (error - explained).clamp(min=0) / left.square(), torch.inf)
    # Of equally good ones the greatest, which moves the weights least.
    best = len(strengths) - 1 - int(score.flip(0).argmin())
    return _STRENGTHS[best]

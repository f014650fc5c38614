"""Ridge regression from sums over samples, the same on every rank, or from few samples themselves."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import distributed

from bioconvert.organism.collective import processes

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


@dataclass(slots=True)
class Spectrum:
    """A ridge regression in the basis where it falls into single numbers.

    Args:
        values: the eigenvalues of the inputs' scatter, [k].
        shares: the squares of the errors' products with the inputs along each direction, [k].
        error: the sum of the squares of the errors.
        unit: the mean eigenvalue over all inputs.
        samples: how many samples there are, less one for a bias.
    """

    values: torch.Tensor
    shares: torch.Tensor
    error: torch.Tensor
    unit: torch.Tensor
    samples: float

    def inverse(self, strength: float | torch.Tensor) -> torch.Tensor:
        """Give the inverse of the scatter with a ridge, of each strength."""
        damped = self.values + strength * self.unit
        return torch.where(damped > 0, 1 / damped, 0)

    def left(self, inverse: torch.Tensor) -> torch.Tensor:
        """Give the sum of the squares of the errors that stay."""
        explained = (self.shares * (2 * inverse - self.values * inverse.square())).sum(-1)
        return (self.error - explained).clamp(min=0)

    def best(self) -> float:
        r"""Choose a strength by generalised cross-validation: of equally good ones the greatest.

        .. math::
            \min_\lambda \frac{\mathrm{RSS}(\lambda)}{(n - 1.4 \, \mathrm{df}(\lambda))^2}
        """
        strengths = torch.tensor(_STRENGTHS, dtype=self.values.dtype, device=self.values.device)
        inverse = self.inverse(strengths[:, None])
        free = self.samples - _CAUTION * (self.values * inverse).sum(1)
        score = torch.where(free > 0, self.left(inverse) / free.square(), torch.inf)
        return float(_STRENGTHS[len(_STRENGTHS) - 1 - int(score.flip(0).argmin())])


class Regression:
    """Ridge regression of what a layer lacks on what it takes.

    Args:
        inputs: number of inputs.
        outputs: number of outputs.
        device: where they are.
        with_bias: whether means may be explained by a bias.
        few: whether the samples of this one process are fewer than the inputs; then they are kept, and else
            the sums of their products.
    """

    def __init__(self, inputs: int, outputs: int, device: torch.device, *, with_bias: bool, few: bool):
        def zeros(*shape: int) -> torch.Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        self.with_bias = with_bias
        self.few = few and processes() == 1
        self.n, self.x, self.r, self.z = zeros(1), zeros(inputs), zeros(outputs), zeros(outputs)
        self.rr, self.zz = zeros(1), zeros(1)
        self.xx = zeros(0 if self.few else inputs, inputs)
        self.xr = zeros(0 if self.few else inputs, outputs)
        self._rows: list[tuple[torch.Tensor, torch.Tensor]] = []

    def add(self, x: torch.Tensor, given: torch.Tensor, wanted: torch.Tensor) -> None:
        """Add samples.

        Args:
            x: inputs, [n, inputs].
            given: the outputs as they are, [n, outputs].
            wanted: as they should be.
        """
        r = wanted - given
        self.n += len(x)
        self.x += x.sum(0)
        self.r += r.sum(0)
        self.z += wanted.sum(0)
        self.rr += r.square().sum()
        self.zz += wanted.square().sum()
        if self.few:
            self._rows.append((x, r))
        else:
            self.xx.addmm_(x.T, x)
            self.xr.addmm_(x.T, r)

    def gather(self) -> None:
        """Add up what all processes have seen, so that each finds the same."""
        if processes() > 1:
            for total in (self.n, self.x, self.r, self.z, self.rr, self.zz, self.xx, self.xr):
                distributed.all_reduce(total)

    def solve(self, strength: float | None) -> Solution:
        """Give what explains the errors best.

        Args:
            strength: that of the ridge; by default, the one with the least error in generalised
                cross-validation.
        """
        used = 1.0 if self.with_bias else 0.0
        x, r = used * self.x / self.n, used * self.r / self.n
        spectrum, basis, along = (self._of_samples if self.few else self._of_sums)(x, r)
        strength = spectrum.best() if strength is None else strength
        inverse = spectrum.inverse(strength)
        weight = basis @ (along * inverse[:, None])
        variance = (self.zz - self.z.square().sum() / self.n).clamp(min=torch.finfo(torch.float64).tiny)
        before, after = (float(each / variance) for each in (self.rr, spectrum.left(inverse)))
        return Solution(weight, r - x @ weight, before, after, strength)

    def _of_sums(self, x: torch.Tensor, r: torch.Tensor) -> _Parts:
        """Give the spectrum, its directions among the inputs, and the products of the errors with each."""
        values, basis = torch.linalg.eigh(self.xx - self.n * torch.outer(x, x))
        along = basis.T @ (self.xr - self.n * torch.outer(x, r))
        return self._spectrum(values.clamp(min=0), along.square().sum(1), r), basis, along

    def _of_samples(self, x: torch.Tensor, r: torch.Tensor) -> _Parts:
        """Give the same from the samples: what they span has no more directions than they are."""
        rows, errors = (torch.cat(each) for each in zip(*self._rows, strict=True))
        rows, errors = rows - x, errors - r
        values, vectors = torch.linalg.eigh(rows @ rows.T)
        values, along = values.clamp(min=0), vectors.T @ errors
        shares = values * along.square().sum(1)
        return self._spectrum(values, shares, r), rows.T @ vectors, along

    def _spectrum(self, values: torch.Tensor, shares: torch.Tensor, r: torch.Tensor) -> Spectrum:
        error = self.rr - self.n * r.square().sum()
        return Spectrum(values, shares, error, values.sum() / len(self.x), float(self.n) - self.with_bias)


_Parts = tuple[Spectrum, torch.Tensor, torch.Tensor]

"""The laws by which single synapses are replaced."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch

from bioconvert.core.errors import OptionError
from bioconvert.plasticity.shards import whole
from bioconvert.plasticity.size_statistics import Sizes
from bioconvert.plasticity.synapses import Synapses

_NEAR_ONE = 1 - 2.0**-24
_LEAST_MEAN = 1e-8
"""What the reference takes for a mean that isn't positive."""


class Law(ABC):
    """How single synapses are replaced."""

    @abstractmethod
    def chance(self, size: torch.Tensor) -> torch.Tensor:
        """Give the chance to be replaced by magnitude, which may be written to."""

    @abstractmethod
    def fresh(self, v: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
        """Give what takes the place of old weights, from uniform numbers, which may be written to."""

    bounds: ClassVar[tuple[float, float] | None] = None
    """Between which all weights are forced."""
    keeps_scale: ClassVar[bool] = False
    """Whether the optimizer still knows how large the gradients of replaced weights were."""


@dataclass(frozen=True, slots=True)
class LogNormal:
    r"""The distribution of :math:`e^{\mu + \sigma z}` for a normal :math:`z`.

    Args:
        mu: :math:`\mu`.
        sigma: :math:`\sigma`.
    """

    mu: float
    sigma: float

    @classmethod
    def matching(cls, mean: float, std: float) -> LogNormal:
        r"""Give the one of a mean and standard deviation: :math:`\sigma^2 = \ln(1 + s^2 / m^2)`."""
        variance = math.log1p((std / mean) ** 2)
        return cls(math.log(mean) - variance / 2, math.sqrt(variance))

    def quantile(self, v: torch.Tensor) -> torch.Tensor:
        """Give the values below which shares of the distribution lie; the shares are written to."""
        # By erfinv, for which there is a fast kernel, unlike for ndtri.
        normal = v.mul_(2).sub_(1).clamp_(-_NEAR_ONE, _NEAR_ONE).erfinv_()
        return normal.mul_(math.sqrt(2) * self.sigma).add_(self.mu).exp_()


@dataclass(frozen=True, slots=True)
class SynapseLaw(Law):
    r"""Magnitudes are log-normal, about as small as those that go; signs stay or are drawn.

    Args:
        falloff: :math:`d / \operatorname{std} w` in :math:`p = e^{-d |w| / \operatorname{std} w}`.
        strength: factor of :math:`p`.
        sizes: the distribution of new magnitudes.
        negative: the share of weights that become negative; ``None`` where each keeps its sign.
    """

    falloff: float
    strength: float
    sizes: LogNormal
    negative: float | None = None

    keeps_scale: ClassVar[bool] = True

    def chance(self, size: torch.Tensor) -> torch.Tensor:
        """Give the chance to be replaced."""
        chance = size.mul_(-self.falloff).exp_()
        return chance if self.strength == 1 else chance.mul_(self.strength)

    def fresh(self, v: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
        """Draw magnitudes, and signs."""
        if self.negative is None:
            return self.sizes.quantile(v).copysign_(old)
        minus = v < self.negative
        share = torch.where(
            minus, v / max(self.negative, 1e-12), (v - self.negative) / (1 - self.negative or 1)
        )
        drawn = self.sizes.quantile(share.clamp_(2.0**-25, 1 - 2.0**-24))
        return torch.where(minus, -drawn, drawn)


@dataclass(frozen=True, slots=True)
class ReferenceLaw(Law):
    r"""The reference's law, with its bias: new weights are positive, and all are clamped to [−1, 1].

    Args:
        falloff: as for :class:`SynapseLaw`.
        strength: factor of :math:`p`.
        sizes: the distribution of new weights, of half the logarithmic deviation that would match.
    """

    falloff: float
    strength: float
    sizes: LogNormal

    def chance(self, size: torch.Tensor) -> torch.Tensor:
        """Give the chance to be replaced; 1 for NaN."""
        return size.mul_(-self.falloff).exp_().mul_(self.strength).nan_to_num_(nan=1.0)

    def fresh(self, v: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
        """Draw positive weights."""
        del old
        return self.sizes.quantile(v)

    bounds: ClassVar[tuple[float, float] | None] = (-1.0, 1.0)


@dataclass(frozen=True, slots=True)
class FirstReferenceLaw(Law):
    r"""The reference's first law: below :math:`|N(0, \max|w| / d)|`, a weight is drawn anew from
    :math:`U(-1, 1) \max|w|`.

    Args:
        greatest: :math:`\max|w|`.
        falloff: :math:`d / \max|w|`.
        strength: factor of the chance.
    """

    greatest: float
    falloff: float
    strength: float

    def chance(self, size: torch.Tensor) -> torch.Tensor:
        """Give the chance that the threshold is above; 1 for NaN."""
        chance = size.mul_(self.falloff / math.sqrt(2)).erfc_()
        return chance.mul_(self.strength).nan_to_num_(nan=1.0)

    def fresh(self, v: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
        """Draw weights of any size."""
        del old
        return v.mul_(2).sub_(1).mul_(self.greatest)


def law_named(
    name: str, synapses: Synapses, sizes: Sizes, d_re: float, *, strength: float, keep_signs: bool
) -> Law | None:
    """Give a law for a weight as it is; ``None`` where it would replace nothing.

    Raises:
        OptionError: a weight isn't finite, and the law is none that replaces such.
    """
    if name == "reference_v1":
        return _first_reference(synapses, d_re, strength)
    if name == "reference":
        mean = sizes.mean if sizes.mean > 0 else _LEAST_MEAN
        matched = LogNormal.matching(mean, sizes.std)
        falloff = d_re / sizes.std if sizes.std else math.inf
        return ReferenceLaw(falloff, strength, LogNormal(matched.mu, matched.sigma / 2))
    if not sizes.is_finite:
        raise OptionError(
            f"{synapses.path!r} holds NaN or infinite weights: rejuvenation would only hide what went wrong"
        )
    if not sizes.std or not sizes.mean_size:
        return None
    negative = None if keep_signs else sizes.negative
    # Half the mean size of those that go: at the whole, the longer tail makes weights grow, slowly.
    small = sizes.std / (2 * d_re)
    matched = LogNormal.matching(min(small, sizes.mean_size), min(small, sizes.std_size))
    return SynapseLaw(d_re / sizes.std, strength, matched, negative)


def _first_reference(synapses: Synapses, d_re: float, strength: float) -> Law | None:
    weight = whole(synapses.held)
    greatest = float(torch.nan_to_num(weight, nan=0.0).abs().max())
    return FirstReferenceLaw(greatest, d_re / greatest, strength) if greatest else None

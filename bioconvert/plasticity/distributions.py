"""The distributions that learning rates are drawn from, each with mean 1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from bioconvert.core.lazy import LazyModule

if TYPE_CHECKING:
    import torch

    from bioconvert.core.random import Stream
else:
    torch = LazyModule("torch")

Distribution = Literal[
    "baseline",
    "uniform",
    "normal",
    "lognormal",
    "gamma",
    "beta",
    "layer_adaptive",
    "weight_adaptive",
    "temporal",
    "activity",
]
MOST, LEAST = 1.5, 0.5
"""By what the spread of adaptive distributions is multiplied at most and at least; 1 in the middle."""


@dataclass(frozen=True, kw_only=True)
class Draw:
    r"""One rate for each element of a weight.

    Args:
        nu: the spread :math:`\nu`.
        weight: the weight that the rates are for.
        stream: the random numbers.
        purpose: what they are for: other rates have another.
    """

    nu: float
    weight: torch.Tensor
    stream: Stream
    purpose: str

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the weight."""
        return tuple(self.weight.shape)

    def around_zero(self) -> torch.Tensor:
        r"""Draw from :math:`U(-\nu, \nu)`."""
        return self.stream.uniform(self.purpose, self.shape, low=-self.nu, high=self.nu)

    def gamma(self, part: str = "") -> torch.Tensor:
        r"""Draw from :math:`\Gamma(1/\nu)` with scale 1."""
        return self.stream.gamma(self.purpose + part, self.shape, 1 / self.nu)


def lies_within(distribution: Distribution, nu: float, least: float, greatest: float) -> bool:
    """Say whether all rates drawn by a distribution are sure to lie between two bounds."""
    return _DRAWN[distribution] is _uniform and least < 1 - nu and 1 + nu < greatest


def rates(distribution: Distribution, draw: Draw) -> torch.Tensor:
    r"""Draw rates: fp32, on the CPU; all 1 where :math:`\nu = 0`.

    ``"layer_adaptive"``, ``"temporal"`` and ``"activity"`` start from uniform rates: depth, time and firing
    narrow or widen these at each step.

    Args:
        distribution: its name.
        draw: what to draw it for, and from.
    """
    return _DRAWN[distribution](draw) if draw.nu else torch.ones(draw.shape)


def _baseline(draw: Draw) -> torch.Tensor:
    return torch.ones(draw.shape)


def _uniform(draw: Draw) -> torch.Tensor:
    return draw.stream.uniform(draw.purpose, draw.shape, low=1 - draw.nu, high=1 + draw.nu)


def _normal(draw: Draw) -> torch.Tensor:
    return draw.stream.normal(draw.purpose, draw.shape).mul_(draw.nu).add_(1)


def _lognormal(draw: Draw) -> torch.Tensor:
    exponent = draw.stream.normal(draw.purpose, draw.shape).mul_(draw.nu)
    return exponent.sub_(draw.nu**2 / 2).exp_()


def _gamma(draw: Draw) -> torch.Tensor:
    return draw.gamma().mul_(draw.nu)


def _beta(draw: Draw) -> torch.Tensor:
    one, other = draw.gamma(" a"), draw.gamma(" b")
    return one.div_(other.add_(one)).mul_(2 * draw.nu).add_(1 - draw.nu)


def _weight_adaptive(draw: Draw) -> torch.Tensor:
    if draw.weight.is_meta:
        return _uniform(draw)
    size = draw.weight.detach().abs().to("cpu", torch.float32)
    mean = size.mean().clamp_min_(torch.finfo(size.dtype).tiny)
    return draw.around_zero().mul_(size.div_(-mean).add_(2).clamp_(LEAST, MOST)).add_(1)


_DRAWN: dict[Distribution, Callable[[Draw], torch.Tensor]] = {
    "baseline": _baseline,
    "uniform": _uniform,
    "normal": _normal,
    "lognormal": _lognormal,
    "gamma": _gamma,
    "beta": _beta,
    "layer_adaptive": _uniform,
    "weight_adaptive": _weight_adaptive,
    "temporal": _uniform,
    "activity": _uniform,
}

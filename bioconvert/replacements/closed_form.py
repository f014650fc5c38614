"""Fitting a Yat layer to what a trained layer and its activation gave, in closed form.

A Yat unit is nearly quadratic along its weight: where the distance varies little around its mean,

.. math:: y \\approx \\frac{\\alpha}{\\bar D} (w \\cdot x + c)^2 + o.

For a pre-activation :math:`z = w \\cdot x + b \\sim N(\\mu, \\sigma^2)`, the best quadratic in
:math:`u = (z - \\mu)/\\sigma` for an activation :math:`f` is its second-order Hermite expansion,
:math:`f(z) \\approx a_0 + a_1 u + a_2 (u^2 - 1)`. Equating the two gives :math:`c`, :math:`\\alpha` and
:math:`o`. For ReLU this is the closed form with :math:`\\Phi(m)/\\varphi(m)`, :math:`m = \\mu/\\sigma`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from bioconvert.core.change import Site
from bioconvert.core.errors import Refused
from bioconvert.layers.starting_values import RELATIVE_EPSILON
from bioconvert.replacements.linear_map import bias_of, by_unit, rows_of, squared_norms, weight_of
from bioconvert.replacements.normalisation import affine_of, lets_through

EPSILON_RATIO = 100.0
"""ε over E‖x‖²; the larger, the less the distance varies and the better the quadratic fits.

On networks trained on scikit-learn's digits, a ratio of 30 cost 4 points of accuracy over two hidden
layers and 22 over four; a ratio of 100 cost 0.9 and 1.6, and one of 300 no less.
"""
_MOST_DEVIATIONS = 4.0
"""|μ|/σ beyond which an activation is taken at that distance from its bend."""
_LEAST_CURVATURE = 1 / 15_000
"""|a₂|/|a₁| below which a unit is a straight line; ReLU's at four deviations."""
_POINTS = 513
_RANGE = 7.0

Function = Callable[[torch.Tensor], torch.Tensor]


@dataclass
class _Moments:
    """Running sums over all samples, in fp64."""

    count: int = 0
    outputs: torch.Tensor | float = 0.0
    squares: torch.Tensor | float = 0.0
    input_norm: float = 0.0
    patches: int = 0


class InputNorm:
    r"""Finds :math:`\varepsilon = \rho\,E\lVert x \rVert^2`, and nothing else.

    Args:
        fallback: :math:`\varepsilon` where the inputs are all zero.
        ratio: :math:`\rho`.
    """

    def __init__(self, fallback: float, ratio: float = RELATIVE_EPSILON):
        self.fallback = fallback
        self.ratio = ratio
        self.moments = _Moments()

    def observe(
        self,
        layer: nn.Module,
        inputs: torch.Tensor,
        outputs: torch.Tensor,  # noqa: ARG002 - the engine's signature
    ) -> None:
        """Add the squared norms of one call's inputs, or patches of them, and its outputs' moments."""
        norms = squared_norms(layer, inputs)
        self.moments.input_norm += float(norms.sum(dtype=torch.float64))
        self.moments.patches += norms.numel()

    def solve(self, layer: nn.Module) -> dict[str, torch.Tensor]:
        """Give the buffer ``epsilon``, of shape [1]."""
        return {"epsilon": self._epsilon(layer)}

    def _epsilon(self, layer: nn.Module) -> torch.Tensor:
        mean = self.moments.input_norm / max(self.moments.patches, 1)
        if not math.isfinite(mean):
            raise Refused(f"the mean squared norm of its inputs on the sample data is {mean:g}")
        # Inputs that are all zero, as behind a gate that is still closed, say nothing about their size.
        return weight_of(layer).new_full((1,), self.ratio * mean or self.fallback)


class ClosedForm(InputNorm):
    r"""Finds α, the bias, ε and the offset of each unit from the moments of the layer's old outputs.

    Args:
        site: tells the activation that is imitated, and the normalisation in between.
        fallback: :math:`\varepsilon` where the inputs are all zero.
    """

    def __init__(self, site: Site, fallback: float):
        super().__init__(fallback, EPSILON_RATIO)
        self.site = site

    def observe(self, layer: nn.Module, inputs: torch.Tensor, outputs: torch.Tensor) -> None:
        """Add the moments of one call's inputs and outputs."""
        super().observe(layer, inputs, outputs)
        units = by_unit(layer, outputs)
        self.moments.count += units.shape[0]
        self.moments.outputs = self.moments.outputs + units.sum(0, dtype=torch.float64)
        self.moments.squares = self.moments.squares + units.double().square().sum(0)

    def solve(self, layer: nn.Module) -> dict[str, torch.Tensor]:
        """Give ``alpha``, ``bias``, ``offset`` of shape [units], and ``epsilon`` of shape [1].

        Raises:
            Refused: too few samples, or values that aren't finite.
        """
        mean, deviation = self._spread()
        slope, shift = affine_of(self.site.norm, mean)
        a0, a1, a2 = hermite(self._function(), slope * mean + shift, slope * deviation)
        usable = lets_through(slope)
        bias, rows = bias_of(layer, mean), rows_of(layer)
        if self.site.norm_becomes == "keep":
            # Behind the layer stands a normalisation that stays: what it will do is undone beforehand.
            a0, a1, a2 = ((a0 - shift) / slope, a1 / slope, a2 / slope)
        elif self.site.norm_becomes == "fold":
            mean, deviation, bias = slope * mean + shift, slope * deviation, slope * bias + shift
            rows = rows * slope[:, None]
        vertex = a1 / (2 * a2)
        epsilon = self._epsilon(layer)
        denominator = float(epsilon) + self._distance(rows, mean - bias)
        values = {
            "alpha": a2 * denominator / deviation.square(),
            "bias": bias - mean + deviation * vertex,
            "offset": a0 - a2 - a2 * vertex.square(),
        }
        # A unit that the normalisation silences gives a constant.
        silent = torch.zeros_like(mean) if self.site.norm_becomes == "keep" else a0
        values = {
            name: torch.where(usable, value, silent if name == "offset" else 0.0)
            for name, value in values.items()
        }
        if not all(bool(value.isfinite().all()) for value in values.values()):
            raise Refused("its outputs on the sample data have no finite mean and variance")
        return {**values, "epsilon": epsilon}

    def _spread(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Give mean and standard deviation of each unit; a unit that never varies gets a small deviation."""
        moments = self.moments
        if moments.count < 2:
            raise Refused("it gave fewer than two outputs on the sample data")
        mean = torch.as_tensor(moments.outputs / moments.count)
        variance = torch.as_tensor(moments.squares / moments.count) - mean.square()
        deviation = variance.clamp_min(0).sqrt()
        floor = 1e-3 * torch.maximum(deviation.mean(), mean.abs().mean()).clamp_min(1e-6)
        return mean, deviation.clamp_min(float(floor))

    def _distance(self, rows: torch.Tensor, product: torch.Tensor) -> torch.Tensor:
        """Give E‖x − w‖² of each unit from E‖x‖², w·E[x] and ‖w‖²."""
        mean = self.moments.input_norm / self.moments.patches
        return (mean - 2 * product + rows.square().sum(1)).clamp_min(0)

    def _function(self) -> Function:
        if self.site.activation is None:
            raise Refused("no activation is known to follow it")
        return self.site.activation.apply


def hermite(
    function: Function, mean: torch.Tensor, deviation: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    r"""Expand a function of a normal variable to second order.

    With :math:`z = \mu + \sigma u`: :math:`a_0 = E f(z)`, :math:`a_1 = E\,u f(z)`,
    :math:`a_2 = E\,(u^2 - 1) f(z) / 2`, by the trapezoidal rule.

    Args:
        function: :math:`f`, element-wise.
        mean: :math:`\mu` of each unit, [units].
        deviation: :math:`\sigma` of each unit, [units]; a negative one mirrors u.

    Returns:
        The three coefficients, [units], fp64; :math:`|a_2|` has a floor relative to :math:`|a_1|`.
    """
    grid = torch.linspace(-_RANGE, _RANGE, _POINTS, dtype=torch.float64, device=mean.device)
    density = torch.exp(-grid.square() / 2)
    density = (density / density.sum())[:, None]
    bound = _MOST_DEVIATIONS * deviation.abs()
    near = torch.minimum(torch.maximum(mean, -bound), bound)
    u = grid[:, None]
    values = function((near + deviation * u).float()).double()
    beyond = function(mean[None].float()).double()[0] - function(near[None].float()).double()[0]
    a0 = (density * values).sum(0) + beyond
    a1 = (density * u * values).sum(0)
    a2 = (density * (u.square() - 1) * values).sum(0) / 2
    least = (a1.abs() * _LEAST_CURVATURE).clamp_min(1e-12)
    return a0, a1, torch.where(a2.abs() < least, least.copysign(torch.where(a2 == 0, 1.0, a2)), a2)

r"""Fitting a Yat layer to samples of what a trained layer and its activation gave.

The weight stays what it is. For each unit, a grid of :math:`\varepsilon` and of vertices
:math:`c = b - (\mu + q \sigma)`, where :math:`z = w \cdot x + b` has mean :math:`\mu` and deviation
:math:`\sigma`, is tried; of each pair the best scale and offset follow from a linear regression of the target
:math:`t` on the quotient :math:`p = (w \cdot x + c)^2 / (\lVert x - w \rVert^2 + \varepsilon)`:

.. math::
    \alpha = \frac{\operatorname{cov}(p, t)}{\operatorname{var}(p)}, \qquad o = \bar t - \alpha \bar p
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import nn

from bioconvert.core.change import Site
from bioconvert.core.errors import Refused
from bioconvert.replacements.linear_map import bias_of, by_unit, products, squared_norms, weight_norms
from bioconvert.replacements.normalisation import affine_of, lets_through

RATIOS = (0.01, 0.1, 1.0, 10.0, 100.0)
"""ε over E‖x‖²."""
VERTICES = (-6.0, -5.0, -4.0, -3.0, -2.0, -1.0, 0.0)
"""Where the parabola has its vertex, in deviations from the mean."""
FAR_VERTICES = (-25.0, -12.0, *VERTICES, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 12.0, 25.0)
"""Those tried for functions that bend to both sides, or not at all."""
STRAIGHT = ((-5_000.0, 1e9),)
"""Vertex and ratio at which the unit is a straight line, as far as fp32 goes: three deviations from the mean
its curvature amounts to a thousandth of one, and the rounding of the vertex's square to less."""
_BENDS_UP = ("ReLU", "ELU", "CELU", "SELU", "GELU", "SiLU", "Mish", "Hardswish")
ROWS_PER_SAMPLE = 16
"""Positions of a convolution, or of a sequence, that one sample of a batch contributes."""
_FEWEST_ROWS = 256
_BLOCK = 2**22
"""Elements of [samples, units] that are worked on at once."""
_REFINEMENT_RATE = 0.05


class _Rows(NamedTuple):
    """Samples of one layer, [samples, units] or what broadcasts with it."""

    z: torch.Tensor
    input_norm: torch.Tensor
    weight_norm: torch.Tensor
    target: torch.Tensor


class _Setting(NamedTuple):
    """What is chosen for each unit, [units]: the shift of z, ε, α, the offset, and what it leaves."""

    shift: torch.Tensor
    epsilon: torch.Tensor
    alpha: torch.Tensor
    offset: torch.Tensor
    residual: torch.Tensor


@dataclass
class Calibrated:
    r"""Finds α, the bias, ε and the offset of each unit, in the network that those before it are by now.

    Args:
        site: tells the activation that is imitated, and the normalisation in between.
        floor: least squared distance of the new layer, in units of the squared norms.
        fallback: :math:`\varepsilon` where the inputs are all zero.
        refine: number of gradient steps by which vertex and :math:`\varepsilon` are improved after the grid.
        grid: vertices and ratios to try; by default those that suit the activation.
    """

    site: Site
    floor: float
    fallback: float
    refine: int = 0
    grid: tuple[tuple[float, float], ...] = ()
    _rows: list[_Rows] = field(default_factory=list)

    def target(self, layer: nn.Module, outputs: torch.Tensor) -> torch.Tensor:
        """Give what the new layer should have given at one call, for some rows of it."""
        y = by_unit(layer, outputs)[_picked(layer, outputs)]
        slope, shift = affine_of(self.site.norm, y[0])
        t = (y * slope + shift).float()
        if self.site.activation is not None:
            t = self.site.activation.apply(t.to(outputs.dtype)).float()
        if self.site.norm_becomes == "keep":
            # Behind the layer stands a normalisation that stays: what it will do is undone beforehand.
            usable = lets_through(slope)
            t = torch.where(usable, (t - shift) / torch.where(usable, slope, 1.0), 0.0).float()
        return t

    def observe(self, layer: nn.Module, inputs: torch.Tensor, outputs: torch.Tensor) -> None:
        """Keep some rows of one call."""
        z, input_norm = products(layer, inputs), squared_norms(layer, inputs)
        weight_norm = weight_norms(layer, inputs)
        picked = row_indices(z.shape[0], inputs.shape[0])
        if picked.numel() != outputs.shape[0]:
            raise Refused("it gives outputs of another shape in the converted network")
        each = weight_norm if weight_norm.shape[0] == 1 else weight_norm[picked]
        self._rows.append(_Rows(z[picked], input_norm[picked], each, outputs))

    def solve(self, layer: nn.Module) -> dict[str, torch.Tensor]:
        """Give ``alpha``, ``bias``, ``epsilon`` and ``offset``, each of shape [units].

        Raises:
            Refused: too few samples, or values that aren't finite.
        """
        rows = self._gathered()
        bias = bias_of(layer, rows.z[0])
        product = rows.z - bias
        slope, shift = (each.float() for each in affine_of(self.site.norm, bias))
        if self.site.norm_becomes == "fold":
            product, bias = product * slope, bias * slope + shift
            rows = rows._replace(z=product + bias, weight_norm=rows.weight_norm * slope.square())
            slope = torch.ones_like(slope)
        total = rows.input_norm + rows.weight_norm
        distance = torch.maximum(total - 2 * product, self.floor * total)
        unit = float(rows.input_norm.mean()) or self.fallback
        found = [
            self._solved(rows.z[:, part], distance[:, part], rows.target[:, part], slope[part], unit)
            for part in _parts(rows.z.shape)
        ]
        setting = _Setting._make(torch.cat(each) for each in zip(*found, strict=True))
        self._rows.clear()
        return {
            "alpha": setting.alpha,
            "bias": bias + setting.shift,
            "epsilon": setting.epsilon,
            "offset": setting.offset,
        }

    def _gathered(self) -> _Rows:
        if sum(rows.z.shape[0] for rows in self._rows) < 2:
            raise Refused("it gave fewer than two outputs on the sample data")
        whole = all(rows.weight_norm.shape[0] == 1 for rows in self._rows)
        gathered = _Rows._make(torch.cat(each) for each in zip(*self._rows, strict=True))
        gathered = gathered._replace(weight_norm=gathered.weight_norm[:1]) if whole else gathered
        if not all(bool(each.isfinite().all()) for each in gathered):
            raise Refused("its inputs or outputs on the sample data are not finite")
        return gathered

    def _solved(
        self,
        z: torch.Tensor,
        distance: torch.Tensor,
        target: torch.Tensor,
        slope: torch.Tensor,
        unit: float,
    ) -> _Setting:
        mean, deviation = z.mean(0), z.std(0)
        typical = float(torch.maximum(deviation.mean(), mean.abs().mean()))
        # Where the normalisation turns a unit round, its activation bends to the other side.
        deviation = deviation.clamp_min(1e-3 * typical + 1e-9).copysign(slope)
        best: _Setting | None = None
        for vertex, ratio in self.grid or _grid(self.site):
            epsilon = z.new_full((1,), ratio * unit)
            setting = _fitted(z, distance, target, -(mean + vertex * deviation), epsilon)
            best = setting if best is None else _better(best, setting)
        assert best is not None
        return _refined(z, distance, target, best, deviation, self.refine) if self.refine else best


def _fitted(
    z: torch.Tensor, distance: torch.Tensor, target: torch.Tensor, shift: torch.Tensor, epsilon: torch.Tensor
) -> _Setting:
    """Regress the target on the quotient that a shift and an ε give."""
    quotient = (z + shift).square() / (distance + epsilon)
    mean, centre = quotient.mean(0), target.mean(0)
    quotient, varying = quotient - mean, target - centre
    variance = quotient.square().mean(0)
    covariance = (quotient * varying).mean(0)
    # A unit whose quotient doesn't vary explains nothing; nor does it where the target itself doesn't.
    usable = variance > 1e-10 * mean.square()
    alpha = torch.where(usable, covariance / torch.where(usable, variance, 1.0), 0.0)
    residual = varying.square().mean(0) - alpha * covariance
    return _Setting(shift, epsilon.expand_as(shift), alpha, centre - alpha * mean, residual)


def _better(one: _Setting, other: _Setting) -> _Setting:
    """Take of each unit the setting that leaves less."""
    wins = other.residual < one.residual
    return _Setting._make(torch.where(wins, b, a) for a, b in zip(one, other, strict=True))


def _refined(
    z: torch.Tensor,
    distance: torch.Tensor,
    target: torch.Tensor,
    start: _Setting,
    deviation: torch.Tensor,
    steps: int,
) -> _Setting:
    """Improve vertex and ε by gradient descent on what the regression leaves; no unit gets worse."""
    best = start
    spread = target.var(0).clamp_min(1e-12)
    with torch.enable_grad():
        moved = torch.zeros_like(start.shift, requires_grad=True)
        stretched = torch.zeros_like(start.shift, requires_grad=True)
        optimizer = torch.optim.Adam([moved, stretched], lr=_REFINEMENT_RATE)
        for _ in range(steps):
            setting = _fitted(
                z, distance, target, start.shift + moved * deviation, start.epsilon * stretched.exp()
            )
            best = _better(best, _Setting._make(each.detach() for each in setting))
            optimizer.zero_grad()
            (setting.residual / spread).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return best


def _grid(site: Site) -> tuple[tuple[float, float], ...]:
    name = site.activation.name if site.activation is not None else ""
    vertices = VERTICES if any(known in name for known in _BENDS_UP) else FAR_VERTICES
    return tuple((vertex, ratio) for vertex in vertices for ratio in RATIOS)


def _picked(layer: nn.Module, outputs: torch.Tensor) -> torch.Tensor:
    return row_indices(by_unit(layer, outputs).shape[0], outputs.shape[0])


def row_indices(rows: int, samples: int) -> torch.Tensor:
    """Choose rows of a call: the same for the original's and the converted network's."""
    most = max(ROWS_PER_SAMPLE * samples, _FEWEST_ROWS)
    if rows <= most:
        return torch.arange(rows)
    chosen = torch.randperm(rows, generator=torch.Generator().manual_seed(0))[:most]
    return chosen.sort().values


def _parts(shape: torch.Size) -> Iterator[slice]:
    """Cut the units into blocks."""
    step = max(1, _BLOCK // shape[0])
    return (slice(start, start + step) for start in range(0, math.ceil(shape[1] / step) * step, step))

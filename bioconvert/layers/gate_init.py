r"""Initial values of recurrent Yat layers: such that gates are open as far as they are meant to be.

No data is at hand, so the inputs of the first layer are taken to have the mean square :math:`v = 1`; states,
which are what later layers see, have the mean square :math:`\rho`, and so :math:`v = \rho`. For rows of unit
norm, the score of a pair [x, h] then varies by about :math:`s`, and the squared distance is about :math:`D`:

.. math::
    s^2 = \frac{v F + \rho H}{F + H}, \qquad D = v F + \rho H + 1 + \varepsilon

With

.. math::
    b = \sqrt{q D / \alpha}, \qquad \alpha = D / (\kappa s)^2

a gate's Yat product is about :math:`q`, and its score lies :math:`\kappa \sqrt q` deviations from 0, where
the square would fold it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

Draw = Callable[[tuple[int, ...]], torch.Tensor]
"""Gives uniform numbers in [0, 1) of a shape."""
MEAN_SQUARE = 0.1
r""":math:`\rho`, of the states that layers with these values run through (measured: 0.03 to 0.15)."""
MARGIN = 2.0
r""":math:`\kappa`; larger ones make gates flatter, smaller ones let the square fold the scores."""


@dataclass(frozen=True, slots=True)
class GateInit:
    r"""Gives the initial values of one set of gates.

    Args:
        opened: for each gate, the value :math:`q` that its Yat product is to be about.
        input_size: :math:`F`.
        mean_square: :math:`v`.
        state_size: :math:`H`, of what the gates see.
        hidden_size: number of rows of each gate.
        epsilon: :math:`\varepsilon`.
        alpha: :math:`\alpha` where it is given; ``None`` where it can be chosen.
    """

    opened: tuple[float, ...]
    input_size: int
    mean_square: float
    state_size: int
    hidden_size: int
    epsilon: float
    alpha: float | None = None

    def value(self, name: str, shape: tuple[int, ...], draw: Draw) -> torch.Tensor:
        """Give the initial value of a parameter.

        Args:
            name: its name in a torch cell, or ``"alpha"``, or ``"weight_hr"``.
            shape: its shape.
            draw: where random numbers come from.
        """
        if name.startswith("weight"):
            return self._bound(name) * (2 * draw(shape) - 1)
        if name == "bias_ih":
            biases = torch.tensor(
                [math.sqrt(each * self._distance() / self._alpha()) for each in self.opened]
            )
            return biases.repeat_interleave(self.hidden_size)
        return torch.full(shape, self._alpha() if name == "alpha" else 0.0)

    def _bound(self, name: str) -> float:
        """Give that of rows [u, v] of unit norm, or torch's for the projection."""
        if name == "weight_hr":
            return 1 / math.sqrt(self.hidden_size)
        return math.sqrt(3 / (self.input_size + self.state_size))

    def _distance(self) -> float:
        return self._squared_norm() + 1 + self.epsilon

    def _squared_norm(self) -> float:
        return self.mean_square * self.input_size + MEAN_SQUARE * self.state_size

    def _alpha(self) -> float:
        if self.alpha is not None:
            return self.alpha
        variance = self._squared_norm() / (self.input_size + self.state_size)
        return self._distance() / (MARGIN**2 * variance)


def balanced_alpha(
    weight_ih: torch.Tensor,
    weight_hh: torch.Tensor,
    bias: torch.Tensor | None,
    *,
    mean_square: float,
    epsilon: float,
) -> torch.Tensor:
    r"""Give the factor with which rows that are there already have Yat products of about 1.

    Args:
        weight_ih: rows :math:`u`.
        weight_hh: rows :math:`v`.
        bias: their bias, or ``None``.
        mean_square: that of the inputs.
        epsilon: :math:`\varepsilon`.

    Shape:
        - Output: [1].
    """
    of_inputs, of_states = weight_ih.square().sum(1), weight_hh.square().sum(1)
    scores = mean_square * of_inputs + MEAN_SQUARE * of_states
    scores = scores if bias is None else scores + bias.square()
    mean = mean_square * weight_ih.shape[1] + MEAN_SQUARE * weight_hh.shape[1] + epsilon
    distances = mean + of_inputs + of_states
    return (distances.mean() / scores.mean().clamp(min=torch.finfo(scores.dtype).tiny)).view(1)

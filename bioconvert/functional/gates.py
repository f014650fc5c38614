"""The gates of a recurrent unit as Yat products of the pair of input and state."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn import functional as F

from bioconvert.functional.yat_formula import Coefficient

State = tuple[torch.Tensor, ...]
"""The hidden state; with an LSTM, the cell state after it."""
Seen = tuple[torch.Tensor, ...]
"""What gates make of inputs before the state is known; as many rows as there are inputs."""


class Gates(NamedTuple):
    r"""Rows :math:`[u_i, v_i]` that score pairs of an input :math:`x` and a state :math:`h`.

    .. math::
        y_i = \alpha_i \,
            \frac{(u_i \cdot x + v_i \cdot h + b_i)^2}
                 {\lVert x - u_i \rVert^2 + \lVert h - v_i \rVert^2 + \varepsilon}

    Args:
        weight_ih: :math:`u_i`.
        weight_hh: :math:`v_i`.
        weight_norm: :math:`\lVert u_i \rVert^2 + \lVert v_i \rVert^2`.
        bias: :math:`b_i`, or ``None``.
        alpha: :math:`\alpha`, a number or a tensor with one or as many elements as there are rows; ``None``
            for 1.
        epsilon: :math:`\varepsilon`, likewise.
    """

    weight_ih: torch.Tensor
    weight_hh: torch.Tensor
    weight_norm: torch.Tensor
    bias: torch.Tensor | None
    alpha: Coefficient | None
    epsilon: Coefficient

    def part(self, start: int, stop: int) -> Gates:
        """Give some of the rows."""
        rows = slice(start, stop)
        return Gates._make(
            each[rows] if isinstance(each, torch.Tensor) and each.shape[0] > 1 else each for each in self
        )

    def see(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        r"""Give what a step needs of its input: :math:`u \cdot x + b`, and the rest of the denominator.

        .. math::
            \lVert x - u \rVert^2 + \lVert h - v \rVert^2 + \varepsilon
                = \underbrace{\lVert x \rVert^2 + \lVert [u, v] \rVert^2 + 2 b + \varepsilon}_\text{rest}
                + \lVert h \rVert^2 - 2 (u \cdot x + v \cdot h + b)
        """
        own = self.weight_norm + self.epsilon
        own = own if self.bias is None else own + 2 * self.bias
        return F.linear(x, self.weight_ih, self.bias), squared_norm(x) + own

    def product(self, score: torch.Tensor, rest: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        """Give the Yat products of inputs and states.

        Args:
            score: what :meth:`see` gave of the inputs.
            rest: likewise.
            h: the states (N, H).
        """
        upper, lower = self._quotient(score, rest, h)
        return upper / lower

    def openness(self, score: torch.Tensor, rest: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        r"""Give the softer sigmoid of :meth:`product`, of which the soft tanh is twice as much less 1.

        .. math::
            \frac{p / q}{1 + p / q} = \frac{p}{p + q}

        One division less, and nothing large in between: what fp32 rounds off a small distance doesn't show.
        """
        upper, lower = self._quotient(score, rest, h)
        return upper / (upper + lower)

    def _quotient(
        self, score: torch.Tensor, rest: torch.Tensor, h: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        score = torch.addmm(score, h, self.weight_hh.t())
        upper = score.square() if self.alpha is None else score.square() * self.alpha
        lower = (rest + squared_norm(h)).sub(score, alpha=2)
        return upper, lower.clamp(min=self.epsilon)


def make_gates(
    weight_ih: torch.Tensor,
    weight_hh: torch.Tensor,
    bias: torch.Tensor | None,
    *,
    alpha: Coefficient | None,
    epsilon: Coefficient,
) -> Gates:
    """Give the gates with these weights; an alpha below 0 counts as 0."""
    if isinstance(alpha, torch.Tensor):
        alpha = alpha.clamp(min=0)
    norm = weight_ih.square().sum(1) + weight_hh.square().sum(1)
    return Gates(weight_ih, weight_hh, norm, bias, alpha, epsilon)


def squared_norm(x: torch.Tensor) -> torch.Tensor:
    """Give the squared norm of each row, as a column."""
    return x.square().sum(-1, keepdim=True)


class RnnUnit:
    r"""A simple recurrent unit.

    .. math::
        h' = \operatorname{soft\_tanh}(y)

    Args:
        gates: rows of the state.
        squashes: whether there is the squasher; :math:`h' = y` otherwise, as a rectifier would give it.
    """

    def __init__(self, gates: Gates, *, squashes: bool = True):
        self._gates = gates
        self._squashes = squashes

    def see(self, x: torch.Tensor) -> Seen:
        """Do what can be done for many inputs at once."""
        return self._gates.see(x)

    def step(self, seen: Seen, state: State) -> State:
        """Give the next state."""
        (score, rest), (h,) = seen, state
        if self._squashes:
            return (2 * self._gates.openness(score, rest, h) - 1,)
        return (self._gates.product(score, rest, h),)


class GruUnit:
    r"""A gated recurrent unit: :math:`r` and :math:`z` score :math:`[x, h]`, :math:`n` does :math:`[x, r h]`.

    .. math::
        r, z = \operatorname{softer\_sigmoid}(y), \quad n = \operatorname{soft\_tanh}(y), \quad
        h' = (1 - z) n + z h

    Args:
        gates: rows of r, z and n.
    """

    def __init__(self, gates: Gates):
        size = gates.weight_hh.shape[0] // 3
        self._gates, self._candidate = gates.part(0, 2 * size), gates.part(2 * size, 3 * size)

    def see(self, x: torch.Tensor) -> Seen:
        """Do what can be done for many inputs at once."""
        return *self._gates.see(x), *self._candidate.see(x)

    def step(self, seen: Seen, state: State) -> State:
        """Give the next state."""
        (score, rest, of_candidate, rest_of_candidate), (h,) = seen, state
        reset, update = self._gates.openness(score, rest, h).chunk(2, -1)
        candidate = 2 * self._candidate.openness(of_candidate, rest_of_candidate, reset * h) - 1
        return (candidate + update * (h - candidate),)


class LstmUnit:
    r"""A long short-term memory unit.

    .. math::
        i, f, o = \operatorname{softer\_sigmoid}(y), \quad g = \operatorname{soft\_tanh}(y), \quad
        c' = f c + i g, \quad h' = o \tanh(c')

    Args:
        gates: rows of i, f, g and o.
        projection: what :math:`h'` is multiplied with, or ``None``.
    """

    def __init__(self, gates: Gates, projection: torch.Tensor | None = None):
        self._gates = gates
        self._projection = projection

    def see(self, x: torch.Tensor) -> Seen:
        """Do what can be done for many inputs at once."""
        return self._gates.see(x)

    def step(self, seen: Seen, state: State) -> State:
        """Give the next state."""
        (score, rest), (h, c) = seen, state
        ingate, forget, candidate, outgate = self._gates.openness(score, rest, h).chunk(4, -1)
        c = torch.addcmul(forget * c, ingate, 2 * candidate - 1)
        h = outgate * c.tanh()
        return (h if self._projection is None else F.linear(h, self._projection)), c

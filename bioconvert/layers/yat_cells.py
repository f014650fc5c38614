"""The Yat counterparts of torch's recurrent cells."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from bioconvert.core.registry import layer
from bioconvert.functional.gates import State
from bioconvert.functional.precision import narrowed, output_dtype, score_dtype, without_autocast
from bioconvert.layers.tracing import traced_call
from bioconvert.layers.yat_gated import GruGates, LstmGates, RnnGates, YatGated


class YatCell(YatGated):
    """One step of a recurrent Yat layer."""

    input_size: int

    def _next(self, input: torch.Tensor, state: State) -> State:
        """Give the next state, in the type of the input or that of autocast."""
        dtype = score_dtype(input)
        rows, *states = (each.to(dtype).view(-1, each.shape[-1]) for each in (input, *state))
        with without_autocast(input):
            unit = self._unit("", dtype)
            following = unit.step(unit.see(rows), tuple(states))
        shape = (*input.shape[:-1], self.hidden_size)
        return tuple(narrowed(each, output_dtype(input)).view(shape) for each in following)

    def _state(self, input: torch.Tensor, given: State | None, count: int) -> State:
        """Give the state to start from, zeros where none is given."""
        if input.dim() not in (1, 2):
            raise ValueError(f"input must have 1 or 2 dimensions, got {input.dim()}")
        if input.shape[-1] != self.input_size:
            raise ValueError(f"input must have {self.input_size} features, got {input.shape[-1]}")
        shape = (*input.shape[:-1], self.hidden_size)
        if given is None:
            return (input.new_zeros(shape),) * count
        if any(each.shape != shape for each in given):
            raise ValueError(f"hx must have the shape {shape}, got {[tuple(each.shape) for each in given]}")
        return given


@layer
class YatRNNCell(RnnGates, YatCell, nn.RNNCell):
    r"""One step of :class:`~bioconvert.layers.YatRNN`.

    .. math::
        h' = \operatorname{soft\_tanh}\left(\alpha \, \frac{(u \cdot x + v \cdot h + b)^2}
            {\lVert x - u \rVert^2 + \lVert h - v \rVert^2 + \varepsilon}\right)

    for each row :math:`[u, v]` of ``weight_ih`` and ``weight_hh``, with :math:`b` the sum of both biases.

    Args:
        input_size: size :math:`F` of :math:`x`.
        hidden_size: size :math:`H` of :math:`h`.
        bias: whether there is :math:`b`.
        nonlinearity: ``"tanh"``, or ``"relu"`` for the Yat product without the squasher.
        alpha: :math:`\alpha`: ``"learnable"``, a constant, or ``"none"`` for 1.
        per_unit: whether each row has an :math:`\alpha`, and a learnt :math:`\varepsilon`, of its own.
        epsilon: :math:`\varepsilon`, in units of :math:`\lVert x \rVert^2 + \lVert h \rVert^2`.
        learnable_epsilon: whether :math:`\varepsilon` is learnt, as the softplus of ``raw_epsilon``.
        device: where the parameters lie.
        dtype: their type; half precision is computed in fp32.

    Shape:
        - Input: :math:`(N, F)` and :math:`(N, H)`, or :math:`(F)` and :math:`(H)`.
        - Output: :math:`(N, H)` or :math:`(H)`, in [-1, 1) with the squasher.

    Raises:
        ValueError: an option is out of its bounds, or a shape doesn't fit.

    Example:
        >>> YatRNNCell(8, 3)(torch.zeros(2, 8)).shape
        torch.Size([2, 3])
    """

    def forward(self, input: torch.Tensor, hx: torch.Tensor | None = None) -> torch.Tensor:
        """Give the next state for ``input`` and the state ``hx``, by default zeros."""
        if (recorded := traced_call(self, input, hx)) is not None:
            return recorded  # type: ignore[return-value]
        return self._next(input, self._state(input, None if hx is None else (hx,), 1))[0]


@layer
class YatGRUCell(GruGates, YatCell, nn.GRUCell):
    r"""One step of :class:`~bioconvert.layers.YatGRU`.

    .. math::
        r &= \operatorname{softer\_sigmoid}(y_r(x, h)) \\
        z &= \operatorname{softer\_sigmoid}(y_z(x, h)) \\
        n &= \operatorname{soft\_tanh}(y_n(x, r \odot h)) \\
        h' &= (1 - z) \odot n + z \odot h

    with each :math:`y` the Yat product of the pair with the gate's rows, as in
    :class:`~bioconvert.layers.YatRNNCell`.

    Args:
        input_size: size :math:`F` of :math:`x`.
        hidden_size: size :math:`H` of :math:`h`.
        bias: whether the scores have biases.
        alpha: as for :class:`~bioconvert.layers.YatRNNCell`, like all that follow.
        per_unit: whether each row has an :math:`\alpha`, and a learnt :math:`\varepsilon`, of its own.
        epsilon: :math:`\varepsilon`.
        learnable_epsilon: whether it is learnt.
        device: where the parameters lie.
        dtype: their type.

    Shape:
        - Input: :math:`(N, F)` and :math:`(N, H)`, or :math:`(F)` and :math:`(H)`.
        - Output: :math:`(N, H)` or :math:`(H)`, in [-1, 1) if :math:`h` is.

    Raises:
        ValueError: an option is out of its bounds, or a shape doesn't fit.

    Example:
        >>> YatGRUCell(8, 3)(torch.zeros(2, 8)).shape
        torch.Size([2, 3])
    """

    def forward(self, input: torch.Tensor, hx: torch.Tensor | None = None) -> torch.Tensor:
        """Give the next state for ``input`` and the state ``hx``, by default zeros."""
        if (recorded := traced_call(self, input, hx)) is not None:
            return recorded  # type: ignore[return-value]
        return self._next(input, self._state(input, None if hx is None else (hx,), 1))[0]


@layer
class YatLSTMCell(LstmGates, YatCell, nn.LSTMCell):
    r"""One step of :class:`~bioconvert.layers.YatLSTM`.

    .. math::
        i, f, o &= \operatorname{softer\_sigmoid}(y_{i, f, o}(x, h)) \\
        g &= \operatorname{soft\_tanh}(y_g(x, h)) \\
        c' &= f \odot c + i \odot g \\
        h' &= o \odot \tanh(c')

    with each :math:`y` the Yat product of the pair with the gate's rows, as in
    :class:`~bioconvert.layers.YatRNNCell`. The cell state has either sign, and keeps torch's tanh.

    Args:
        input_size: size :math:`F` of :math:`x`.
        hidden_size: size :math:`H` of :math:`h` and :math:`c`.
        bias: whether the scores have biases.
        alpha: as for :class:`~bioconvert.layers.YatRNNCell`, like all that follow.
        per_unit: whether each row has an :math:`\alpha`, and a learnt :math:`\varepsilon`, of its own.
        epsilon: :math:`\varepsilon`.
        learnable_epsilon: whether it is learnt.
        device: where the parameters lie.
        dtype: their type.

    Shape:
        - Input: :math:`(N, F)`, and :math:`(N, H)` twice, or all without :math:`N`.
        - Output: :math:`h'` and :math:`c'`, :math:`(N, H)` or :math:`(H)`.

    Raises:
        ValueError: an option is out of its bounds, or a shape doesn't fit.

    Example:
        >>> h, c = YatLSTMCell(8, 3)(torch.zeros(2, 8))
        >>> h.shape
        torch.Size([2, 3])
    """

    def forward(self, input: torch.Tensor, hx: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Give the next state for ``input`` and the state ``hx``, a pair, by default zeros."""
        if (recorded := traced_call(self, input, hx)) is not None:
            return recorded  # type: ignore[return-value]
        h, c = self._next(input, self._state(input, None if hx is None else tuple(hx), 2))
        return h, c

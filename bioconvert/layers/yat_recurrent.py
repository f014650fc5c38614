"""The Yat counterparts of torch's recurrent layers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from bioconvert.core.registry import layer
from bioconvert.functional.gates import State
from bioconvert.functional.over_time import over_time
from bioconvert.functional.precision import narrowed, output_dtype, score_dtype, without_autocast
from bioconvert.layers.sequences import Given, Sequences
from bioconvert.layers.tracing import traced_call
from bioconvert.layers.yat_gated import GruGates, LstmGates, RnnGates, YatGated, gate_suffixes


class YatRecurrent(YatGated):
    """Runs the units of all layers and directions over time."""

    num_layers: int
    bidirectional: bool
    batch_first: bool
    dropout: float
    proj_size: int

    def _run(self, input: Given, hx: State | None) -> tuple[Given, State]:
        """Give the output, in the form of ``input``, and the last states.

        A compiler that doesn't look into recurrent layers is kept from what they call as well: it would
        compile the loop anew, step by step, for each length.
        """
        outside = "torch._dynamo" in sys.modules and not torch.compiler.is_compiling()
        compute: Any = _uncompiled(self._compute) if outside else self._compute
        found: tuple[Given, State] = compute(input, hx)
        return found

    def _compute(self, input: Given, hx: State | None) -> tuple[Given, State]:
        sequences = Sequences(input, self.batch_first)
        rows = sequences.rows
        state = self._zeros(sequences) if hx is None else sequences.arranged(hx)
        self._check(sequences, state)
        with without_autocast(rows):
            dtype = score_dtype(rows)
            wide = tuple(each.to(dtype) for each in state)
            hidden, last = self._through_layers(rows.to(dtype), sequences.sizes, wide)
        narrow = output_dtype(rows)
        last = tuple(narrowed(each, narrow) for each in last)
        return sequences.like_given(narrowed(hidden, narrow)), sequences.restored(last)

    def _through_layers(
        self, rows: torch.Tensor, sizes: list[int], state: State
    ) -> tuple[torch.Tensor, State]:
        lasts: list[State] = []
        suffixes, directions = gate_suffixes(self), 1 + self.bidirectional
        for depth in range(self.num_layers):
            if depth and self.dropout:
                rows = F.dropout(rows, self.dropout, self.training)
            hidden = []
            for index in range(depth * directions, (depth + 1) * directions):
                unit = self._unit(suffixes[index], rows.dtype)
                start = tuple(each[index] for each in state)
                found, last = over_time(unit, rows, sizes, start, reverse=index % directions == 1)
                hidden.append(found)
                lasts.append(last)
            rows = torch.cat(hidden, -1) if directions > 1 else hidden[0]
        return rows, tuple(torch.stack(each) for each in zip(*lasts, strict=True))

    def _zeros(self, sequences: Sequences) -> State:
        shapes = self._state_shapes(sequences)
        return tuple(sequences.rows.new_zeros(shape) for shape in shapes)

    def _state_shapes(self, sequences: Sequences) -> list[tuple[int, int, int]]:
        """Give the shapes of the hidden state and, where there is one, of the cell state."""
        count = self.num_layers * (1 + self.bidirectional)
        batch = sequences.sizes[0]
        shapes = [(count, batch, self.proj_size or self.hidden_size)]
        return [*shapes, (count, batch, self.hidden_size)] if isinstance(self, nn.LSTM) else shapes

    def _check(self, sequences: Sequences, state: State) -> None:
        features = sequences.rows.shape[-1]
        if features != self.input_size:
            raise ValueError(f"input must have {self.input_size} features, got {features}")
        found = [tuple(each.shape) for each in state]
        if found != self._state_shapes(sequences):
            raise ValueError(f"hx must have the shapes {self._state_shapes(sequences)}, got {found}")


def _uncompiled(function: Callable[..., Any]) -> Callable[..., Any]:
    found: Callable[..., Any] = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
    return found


@layer
class YatRNN(RnnGates, YatRecurrent, nn.RNN):
    r"""Runs simple recurrent Yat units over sequences.

    .. math::
        h_t = \operatorname{soft\_tanh}\left(\alpha \, \frac{(u \cdot x_t + v \cdot h_{t-1} + b)^2}
            {\lVert x_t - u \rVert^2 + \lVert h_{t-1} - v \rVert^2 + \varepsilon}\right)

    for each row :math:`[u, v]` of ``weight_ih_l0`` and ``weight_hh_l0``, with :math:`b` the sum of both
    biases. A Yat product isn't negative, so that the squasher stands where a torch layer has tanh.

    Args:
        args: ``nn.RNN``'s arguments; ``nonlinearity="relu"`` leaves out the squasher.
        alpha: :math:`\alpha`: ``"learnable"``, a constant, or ``"none"`` for 1.
        per_unit: whether each row has an :math:`\alpha`, and a learnt :math:`\varepsilon`, of its own.
        epsilon: :math:`\varepsilon`, in units of :math:`\lVert x \rVert^2 + \lVert h \rVert^2`.
        learnable_epsilon: whether :math:`\varepsilon` is learnt, as the softplus of ``raw_epsilon_l0``.
        kwargs: as ``args``; half precision is computed in fp32.

    Shape:
        - Input and output: those of ``nn.RNN``, packed sequences included.

    Raises:
        ValueError: an option is out of its bounds, or a shape doesn't fit.

    Example:
        >>> output, last = YatRNN(8, 3, batch_first=True)(torch.zeros(2, 5, 8))
        >>> output.shape
        torch.Size([2, 5, 3])
    """

    def forward(self, input: Any, hx: torch.Tensor | None = None) -> tuple[Any, torch.Tensor]:
        """Give all outputs and the last state for ``input`` and the state ``hx``, by default zeros."""
        if isinstance(input, fx.Proxy) and (recorded := traced_call(self, input, hx)) is not None:
            return recorded  # type: ignore[return-value]
        output, (last,) = self._run(input, None if hx is None else (hx,))
        return output, last


@layer
class YatGRU(GruGates, YatRecurrent, nn.GRU):
    r"""Runs gated recurrent Yat units over sequences.

    .. math::
        r_t &= \operatorname{softer\_sigmoid}(y_r(x_t, h_{t-1})) \\
        z_t &= \operatorname{softer\_sigmoid}(y_z(x_t, h_{t-1})) \\
        n_t &= \operatorname{soft\_tanh}(y_n(x_t, r_t \odot h_{t-1})) \\
        h_t &= (1 - z_t) \odot n_t + z_t \odot h_{t-1}

    with each :math:`y` the Yat product of the pair with the gate's rows, as in
    :class:`~bioconvert.layers.YatRNN`. Unlike torch's, the reset gate acts on the state itself, in score and
    distance.

    Args:
        args: ``nn.GRU``'s arguments.
        alpha: as for :class:`~bioconvert.layers.YatRNN`, like all that follow.
        per_unit: whether each row has an :math:`\alpha`, and a learnt :math:`\varepsilon`, of its own.
        epsilon: :math:`\varepsilon`.
        learnable_epsilon: whether it is learnt.
        kwargs: as ``args``.

    Shape:
        - Input and output: those of ``nn.GRU``, packed sequences included.

    Raises:
        ValueError: an option is out of its bounds, or a shape doesn't fit.

    Example:
        >>> output, last = YatGRU(8, 3, batch_first=True)(torch.zeros(2, 5, 8))
        >>> output.shape
        torch.Size([2, 5, 3])
    """

    def forward(self, input: Any, hx: torch.Tensor | None = None) -> tuple[Any, torch.Tensor]:
        """Give all outputs and the last state for ``input`` and the state ``hx``, by default zeros."""
        if isinstance(input, fx.Proxy) and (recorded := traced_call(self, input, hx)) is not None:
            return recorded  # type: ignore[return-value]
        output, (last,) = self._run(input, None if hx is None else (hx,))
        return output, last


@layer
class YatLSTM(LstmGates, YatRecurrent, nn.LSTM):
    r"""Runs long short-term memory Yat units over sequences.

    .. math::
        i_t, f_t, o_t &= \operatorname{softer\_sigmoid}(y_{i, f, o}(x_t, h_{t-1})) \\
        g_t &= \operatorname{soft\_tanh}(y_g(x_t, h_{t-1})) \\
        c_t &= f_t \odot c_{t-1} + i_t \odot g_t \\
        h_t &= o_t \odot \tanh(c_t)

    with each :math:`y` the Yat product of the pair with the gate's rows, as in
    :class:`~bioconvert.layers.YatRNN`. The cell state has either sign, and keeps torch's tanh. With
    ``proj_size``, :math:`h_t` is multiplied with ``weight_hr_l0``.

    Args:
        args: ``nn.LSTM``'s arguments.
        alpha: as for :class:`~bioconvert.layers.YatRNN`, like all that follow.
        per_unit: whether each row has an :math:`\alpha`, and a learnt :math:`\varepsilon`, of its own.
        epsilon: :math:`\varepsilon`.
        learnable_epsilon: whether it is learnt.
        kwargs: as ``args``.

    Shape:
        - Input and output: those of ``nn.LSTM``, packed sequences included.

    Raises:
        ValueError: an option is out of its bounds, or a shape doesn't fit.

    Example:
        >>> output, (h, c) = YatLSTM(8, 3, batch_first=True)(torch.zeros(2, 5, 8))
        >>> output.shape
        torch.Size([2, 5, 3])
    """

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, tuple[torch.Tensor, torch.Tensor]]:
        """Give all outputs and the last state for ``input`` and the pair ``hx``, by default zeros."""
        if isinstance(input, fx.Proxy) and (recorded := traced_call(self, input, hx)) is not None:
            return recorded  # type: ignore[return-value]
        output, (h, c) = self._run(input, None if hx is None else tuple(hx))
        return output, (h, c)

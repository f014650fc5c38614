r"""A weight with a gated addition for each sample, :math:`W_n = W + g \odot \Delta_n`.

While the gate is zero the output is that of :math:`W`, to the last bit, and the gradients are those of
:math:`W_n`: the gate learns first, and what :math:`\Delta_n` is made of follows once the gate has moved.
"""

from __future__ import annotations

from typing import Any

import torch

from bioconvert.functional.eager import is_batched
from bioconvert.functional.sample_maps import SampleMap, kernels_for

Inputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor, torch.Tensor]
"""Input, weight, bias, gate and additions, as the arguments of :func:`gated_product`."""


def gated_product(
    how: SampleMap,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    gate: torch.Tensor,
    delta: torch.Tensor,
    *,
    closed: bool,
) -> torch.Tensor:
    r"""Let :math:`W + g \odot \Delta_n` act on each sample.

    Args:
        how: what a weight does to an input.
        x: a batch of inputs.
        weight: :math:`W`.
        bias: added to each output channel.
        gate: :math:`g`, one number for each output channel.
        delta: :math:`\Delta`, [D, …] with the weight's shape behind and D a divisor of the batch.
        closed: whether the gate is known to be zero, in eager mode without transforms.
    """
    if closed:
        output: torch.Tensor = _AtZero.apply(how, x, weight, bias, gate, delta)  # type: ignore[no-untyped-call]
        return output
    return how.varied(x, torch.addcmul(weight, how.spread_gate(gate, weight), delta), bias)


class _AtZero(torch.autograd.Function):
    """The map of the plain weight, with the gradients of the gated one."""

    @staticmethod
    def forward(
        ctx: Any,
        how: SampleMap,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        gate: torch.Tensor,
        delta: torch.Tensor,
    ) -> torch.Tensor:
        ctx.how = how
        ctx.save_for_backward(x, weight, bias, gate, delta)
        # Detached, since autocast would keep its copy of a parameter, made without a graph, for other layers.
        return how.plain(x.detach(), weight.detach(), None if bias is None else bias.detach())

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        needed = ctx.needs_input_grad[1:]
        differentiate = _by_graph if torch.is_grad_enabled() or is_batched(grad) else _by_hand
        return None, *differentiate(ctx.how, grad, ctx.saved_tensors, needed)


def _by_hand(
    how: SampleMap, grad: torch.Tensor, inputs: Inputs, needed: tuple[bool, ...]
) -> tuple[torch.Tensor | None, ...]:
    """Give the gradients at a gate of zero."""
    x, weight, bias, gate, delta = inputs
    own = grad.dtype  # of the output, which autocast may have lowered
    by_x = how.by_input(grad, x.to(own), weight.to(own)).to(x.dtype) if needed[0] else None
    by_weight = by_gate = None
    if needed[1] or needed[3]:
        rows = kernels_for(x, delta)
        like = delta.to(own) if rows == delta.shape[0] else weight.to(own).unsqueeze(0)
        by_weights = how.by_weights(grad, x.to(own), like)
        by_weight = by_weights.sum(0).to(weight.dtype) if needed[1] else None
        by_gate = how.per_channel(by_weights * delta).to(gate.dtype) if needed[3] else None
    by_bias = how.by_bias(grad).to(bias.dtype) if bias is not None and needed[2] else None
    return by_x, by_weight, by_bias, by_gate, torch.zeros_like(delta) if needed[4] else None


def _by_graph(
    how: SampleMap, grad: torch.Tensor, inputs: Inputs, needed: tuple[bool, ...]
) -> tuple[torch.Tensor | None, ...]:
    """Give the gradients in a form that can be differentiated again."""
    with torch.enable_grad():
        # Each as a tensor of its own: the additions may depend on the input, which here they must not.
        apart: Any = [None if tensor is None else tensor.view_as(tensor) for tensor in inputs]
        y = gated_product(how, *apart, closed=False)
        wanted = [tensor for tensor, want in zip(apart, needed, strict=True) if want]
        found = iter(torch.autograd.grad(y, wanted, grad.to(y.dtype), create_graph=torch.is_grad_enabled()))
    return tuple(next(found) if want else None for want in needed)

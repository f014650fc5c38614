"""The Yat product of a linear map as one autograd function, for tensors that have memory of their own."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import Function

from bioconvert.functional import yat_kernel
from bioconvert.functional.eager import is_batched
from bioconvert.functional.layout import Layout, layout_of
from bioconvert.functional.linear_map import LinearMap
from bioconvert.functional.plain import plain_product
from bioconvert.functional.precision import without_autocast
from bioconvert.functional.totals import Total, squared_sum
from bioconvert.functional.units import Units
from bioconvert.functional.yat_formula import Terms
from bioconvert.functional.yat_kernel import Kept

_X, _ALPHA = 3, 6
"""Where operands stand among the function's arguments."""


class FusedProduct(Function):
    """Keeps input, weight and the quotient of score and denominator; for a gradient of alpha the score too.

    Its outputs are the product and the indices of inputs so near a weight that fp32 gets them wrong. Where
    the backward is to have a graph of its own, or gradients come in batches, it goes through the plain
    operations: derivatives of what is kept would be wrong.
    """

    @staticmethod
    def forward(
        ctx: Any,
        geometry: LinearMap,
        floor: float,
        graph: bool,
        x: torch.Tensor,
        weight: torch.Tensor,
        *units: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Give the product, and the inputs it is wrong for."""
        plain = geometry.score(x, weight)
        layout = layout_of(plain, geometry.groups)
        plain = plain if layout.last else plain.contiguous()
        score = layout.arrange(plain)
        terms = Terms._make((*_norms(x, weight, geometry, layout), *Units(*units).map(layout.spread)))
        score_is_kept = graph and ctx.needs_input_grad[_ALPHA]
        y = torch.empty_like(plain) if score_is_kept else plain
        found = yat_kernel.forward(score, terms, floor, out=layout.arrange(y), keep=graph)
        tensors = [unit if isinstance(unit, torch.Tensor) else None for unit in units]
        kept = (found.quotient, found.far, score if score_is_kept else None)
        ctx.save_for_backward(x, weight, *kept, *tensors)
        ctx.numbers = [None if isinstance(unit, torch.Tensor) else unit for unit in units]
        ctx.geometry, ctx.floor, ctx.layout = geometry, floor, layout
        ctx.shapes = [term.shape if isinstance(term, torch.Tensor) else None for term in terms]
        ctx.mark_non_differentiable(found.near)
        return y, found.near

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[torch.Tensor | None, ...]:
        """Give the gradients of input, weight and units."""
        # Read once: under gradient checkpointing a second look is an error.
        x, weight, quotient, far, biased, *tensors = ctx.saved_tensors
        pairs = zip(tensors, ctx.numbers, strict=True)
        units = Units._make(number if tensor is None else tensor for tensor, number in pairs)
        with without_autocast(x):
            if torch.is_grad_enabled() or is_batched(grads[0]):
                return None, None, None, *_recomputed(ctx, grads[0], x, weight, units)
            sums = _sums(ctx, quotient)
            alpha = units.map(ctx.layout.spread).alpha
            kept = Kept(quotient, far, biased)
            by_score = yat_kernel.backward(ctx.layout.arrange(grads[0]), kept, alpha, ctx.floor, sums)
            totals = {name: total.value() for name, total in sums.items()}
            return (
                None,
                None,
                None,
                *_pulled_back(ctx, by_score, totals, x, weight),
                *_by_units(totals, tensors),
            )


def _norms(
    x: torch.Tensor, weight: torch.Tensor, geometry: LinearMap, layout: Layout
) -> tuple[torch.Tensor, torch.Tensor]:
    own = layout_of(x, geometry.groups)
    of_points = own.restore(squared_sum(own.arrange(x), own.channels))
    of_weights = geometry.weight_norm(weight, x.shape[2:], squared_sum)
    return layout.arrange(geometry.input_norm(of_points)), layout.arrange(of_weights)


def _sums(ctx: Any, like: torch.Tensor) -> dict[str, Total]:
    wanted = zip(Terms._fields, ctx.shapes, ctx.needs_input_grad[_X:], strict=True)
    return {name: Total(like.new_empty(shape)) for name, shape, need in wanted if need and shape is not None}


def _by_units(totals: dict[str, torch.Tensor], units: list[torch.Tensor | None]) -> list[torch.Tensor | None]:
    if "epsilon" in totals:
        totals["epsilon"].mul_(-0.5)
    return [
        totals[name].view(unit.shape) if unit is not None and name in totals else None
        for name, unit in zip(Units._fields, units, strict=True)
    ]


def _pulled_back(
    ctx: Any, by_score: torch.Tensor, totals: dict[str, torch.Tensor], x: torch.Tensor, weight: torch.Tensor
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Give the gradients of input and weight, each through the score and through its norm.

    A squared norm's gradient by the vector is twice the vector; the totals are -2 times gradients.
    """
    geometry, layout = ctx.geometry, ctx.layout
    needed = ctx.needs_input_grad[_X : _X + 2]
    by_x, by_weight = geometry.pull_back(layout.restore(by_score), x, weight, needed)
    if by_x is not None:
        by_points = geometry.pull_back_input_norm(layout.restore(totals["input_norm"]), x.shape[2:])
        points = Layout(geometry.groups, x.dim() - 2, last=False)
        points.arrange(by_x).addcmul_(points.arrange(x), points.arrange(by_points), value=-1)
    if by_weight is not None:
        by_norm = layout.restore(totals["weight_norm"].mul_(-0.5))
        geometry.add_weight_norm_gradient(by_weight, by_norm, weight, x.shape[2:])
    return by_x, by_weight


def _recomputed(
    ctx: Any, grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, units: Units
) -> list[torch.Tensor | None]:
    """Give the gradients of input, weight and units through the plain operations."""
    graph, needed = torch.is_grad_enabled(), ctx.needs_input_grad[_X:]
    with torch.enable_grad():
        # Aliases, since one operand may have been computed from another: each gradient is to end at its own.
        x, weight = x.view_as(x), weight.view_as(weight)
        units = units.map(lambda unit: unit.view_as(unit))
        y = plain_product(ctx.geometry, ctx.floor, x, weight, units).y
    operands = zip((x, weight, *units), needed, strict=True)
    wanted = [operand for operand, need in operands if need and isinstance(operand, torch.Tensor)]
    found = iter(torch.autograd.grad(y, wanted, grad, create_graph=graph))
    return [next(found) if need else None for need in needed]

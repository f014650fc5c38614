"""The Yat product of a linear map as one autograd function, for tensors that have memory of their own."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import Function

from bioconvert.functional import yat_kernel
from bioconvert.functional.eager import has_values, is_batched
from bioconvert.functional.geometry import Geometry
from bioconvert.functional.layout import Layout, layout_of
from bioconvert.functional.near import may_be_near, near_inputs, no_inputs
from bioconvert.functional.plain import plain_product
from bioconvert.functional.precision import without_autocast
from bioconvert.functional.totals import squared_sum
from bioconvert.functional.units import Units
from bioconvert.functional.window_sum import window_spread, window_sum
from bioconvert.functional.yat_formula import Coefficient, Terms


class FusedProduct(Function):
    """Keeps input, weight, norms and score, and recomputes the rest in backward, block by block.

    Its outputs are the product and the indices of inputs so near a weight that fp32 gets them wrong. Where
    the backward is to have a graph of its own, or gradients come in batches, it goes through the plain
    operations: derivatives of the kept score would be wrong.
    """

    @staticmethod
    def forward(
        ctx: Any, geometry: Geometry, floor: float, x: torch.Tensor, weight: torch.Tensor, *units: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Give the product, and the inputs it is wrong for."""
        plain = geometry.score(x, weight)
        layout = layout_of(plain, geometry.groups)
        score = layout.arrange(plain).contiguous()
        norms = _norms(x, weight, geometry, layout)
        terms = Terms._make((*norms, *Units(*units).map(layout.spread)))
        # Not a view of anything, or what follows couldn't work in place on it.
        y = torch.empty_like(plain)
        least = yat_kernel.forward(score, terms, floor, look=has_values(score), out=layout.arrange(y))
        near = _near(score, terms, floor, least)
        tensors = [unit if isinstance(unit, torch.Tensor) else None for unit in units]
        ctx.save_for_backward(x, weight, score, *norms, *tensors)
        ctx.numbers = [None if isinstance(unit, torch.Tensor) else unit for unit in units]
        ctx.geometry, ctx.floor, ctx.layout = geometry, floor, layout
        ctx.clear = least is not None and least.amin().item() > _most(terms.epsilon)
        ctx.mark_non_differentiable(near)
        return y, near

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[torch.Tensor | None, ...]:
        """Give the gradients of input, weight and units."""
        # Read once: under gradient checkpointing a second look is an error.
        x, weight, score, input_norm, weight_norm, *tensors = ctx.saved_tensors
        norms, pairs = (input_norm, weight_norm), zip(tensors, ctx.numbers, strict=True)
        units = Units._make(number if tensor is None else tensor for tensor, number in pairs)
        with without_autocast(x):
            if torch.is_grad_enabled() or is_batched(grads[0]):
                return None, None, *_recomputed(ctx, grads[0], x, weight, units)
            terms = Terms._make((*norms, *units.map(ctx.layout.spread)))
            by = yat_kernel.backward(
                ctx.layout.arrange(grads[0]),
                score,
                terms,
                ctx.floor,
                needed=ctx.needs_input_grad[2:],
                clear=ctx.clear,
            )
            by_units = (
                by_unit.view(unit.shape) if by_unit is not None and isinstance(unit, torch.Tensor) else None
                for by_unit, unit in zip(by.units, units, strict=True)
            )
            return None, None, *_pulled_back(ctx, by, x, weight), *by_units


def _norms(
    x: torch.Tensor, weight: torch.Tensor, geometry: Geometry, layout: Layout
) -> tuple[torch.Tensor, torch.Tensor]:
    own = layout_of(x, geometry.groups)
    of_points = own.restore(squared_sum(own.arrange(x), own.channels))
    of_patches = layout.arrange(window_sum(of_points, geometry.windows))
    return of_patches, layout.spread(squared_sum(weight.flatten(1), 1))


def _near(score: torch.Tensor, terms: Terms, floor: float, least: torch.Tensor | None) -> torch.Tensor:
    if score.dtype != torch.float32 or least is None or not may_be_near(least, terms):
        return no_inputs(score)
    return near_inputs(score, terms, floor)


def _most(coefficient: Coefficient) -> float:
    return coefficient.amax().item() if isinstance(coefficient, torch.Tensor) else coefficient


def _pulled_back(
    ctx: Any, by: yat_kernel.Gradients, x: torch.Tensor, weight: torch.Tensor
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Give the gradients of input and weight, each through the score and through its norm."""
    geometry, layout = ctx.geometry, ctx.layout
    by_x, by_weight = geometry.pull_back(layout.restore(by.score), x, weight, ctx.needs_input_grad[2:4])
    if by_x is not None and by.input_norm is not None:
        by_points = window_spread(layout.restore(by.input_norm), geometry.windows, x.shape[2:])
        points = Layout(geometry.groups, x.dim() - 2, last=False)
        points.arrange(by_x).addcmul_(points.arrange(x), points.arrange(by_points), value=2)
    if by_weight is not None and by.weight_norm is not None:
        by_norm = by.weight_norm.view(-1, *[1] * (weight.dim() - 1))
        by_weight.addcmul_(weight, by_norm, value=2)
    return by_x, by_weight


def _recomputed(
    ctx: Any, grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, units: Units
) -> list[torch.Tensor | None]:
    """Give the gradients of input, weight and units through the plain operations."""
    graph, needed = torch.is_grad_enabled(), ctx.needs_input_grad[2:]
    with torch.enable_grad():
        # Aliases, since one operand may have been computed from another: each gradient is to end at its own.
        x, weight = x.view_as(x), weight.view_as(weight)
        units = units.map(lambda unit: unit.view_as(unit))
        y = plain_product(ctx.geometry, ctx.floor, x, weight, units).y
    operands = zip((x, weight, *units), needed, strict=True)
    wanted = [operand for operand, need in operands if need and isinstance(operand, torch.Tensor)]
    found = iter(torch.autograd.grad(y, wanted, grad, create_graph=graph))
    return [next(found) if need else None for need in needed]

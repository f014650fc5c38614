"""The Yat product of a linear map as one autograd function, for tensors that have memory of their own."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import Function

from bioconvert.functional import yat_kernel
from bioconvert.functional.eager import has_values, is_transformed
from bioconvert.functional.geometry import Geometry
from bioconvert.functional.layout import Layout, layout_of
from bioconvert.functional.near import near_inputs
from bioconvert.functional.plain import plain_product
from bioconvert.functional.precision import without_autocast
from bioconvert.functional.totals import squared_sum
from bioconvert.functional.units import Units
from bioconvert.functional.window_sum import window_spread, window_sum
from bioconvert.functional.yat_formula import Terms


class FusedProduct(Function):
    """Keeps input, weight, norms and score, and recomputes the rest in backward, block by block.

    Its outputs are the product and the indices of inputs so near a weight that fp32 gets them wrong. Where the
    backward is to have a graph of its own, or gradients come in batches, it goes through the plain operations.
    """

    @staticmethod
    def forward(
        ctx: Any, geometry: Geometry, floor: float, x: torch.Tensor, weight: torch.Tensor, *units: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        score = geometry.score(x, weight)
        layout = layout_of(score, geometry.groups)
        score = layout.arrange(score).contiguous()
        norms = _norms(x, weight, geometry, layout)
        terms = Terms(*norms, *Units(*units).map(layout.spread))
        look = score.dtype == torch.float32 and has_values(score)
        y, least = yat_kernel.forward(score, terms, floor, look=look)
        near = near_inputs(score, terms, floor, least) if look else score.new_empty(0, dtype=torch.long)
        ctx.geometry, ctx.floor, ctx.layout, ctx.look = geometry, floor, layout, look
        ctx.numbers = [None if isinstance(unit, torch.Tensor) else unit for unit in units]
        tensors = [unit if isinstance(unit, torch.Tensor) else None for unit in units]
        ctx.save_for_backward(x, weight, score, *norms, *tensors)
        ctx.mark_non_differentiable(near)
        return layout.restore(y), near

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[torch.Tensor | None, ...]:
        x, weight, score, input_norm, weight_norm, *tensors = ctx.saved_tensors
        pairs = zip(tensors, ctx.numbers, strict=True)
        units = Units(*(number if tensor is None else tensor for tensor, number in pairs))
        with without_autocast(grads[0]):
            if torch.is_grad_enabled() or is_transformed():
                return None, None, *_recomputed(ctx, grads[0], x, weight, units)
            terms = Terms(input_norm, weight_norm, *units.map(ctx.layout.spread))
            by_terms = yat_kernel.backward(
                ctx.layout.arrange(grads[0]),
                score,
                terms,
                ctx.floor,
                needed=ctx.needs_input_grad[2:],
                masked=not ctx.look,
            )
            by_units = [
                None if by is None else by.view(unit.shape) for by, unit in zip(by_terms.units, units, strict=True)
            ]
            return None, None, *_pulled_back(ctx, by_terms, x, weight), *by_units


def _norms(
    x: torch.Tensor, weight: torch.Tensor, geometry: Geometry, layout: Layout
) -> tuple[torch.Tensor, torch.Tensor]:
    own = layout_of(x, geometry.groups)
    of_points = own.outward(squared_sum(own.arrange(x), own.channels))
    of_patches = layout.inward(window_sum(of_points, geometry.windows))
    return of_patches, layout.spread(squared_sum(weight.flatten(1), 1))


def _pulled_back(
    ctx: Any, by: yat_kernel.Gradients, x: torch.Tensor, weight: torch.Tensor
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Give the gradients of input and weight, each through the score and through its norm."""
    geometry = ctx.geometry
    by_score = ctx.layout.restore(by.score)
    by_x, by_weight = geometry.pull_back(by_score, x, weight, ctx.needs_input_grad[2:4])
    if by_x is not None and by.input_norm is not None:
        by_points = window_spread(ctx.layout.outward(by.input_norm), geometry.windows, x.shape[2:])
        points = Layout(geometry.groups, x.dim() - 2, last=False)
        points.arrange(by_x).addcmul_(points.arrange(x), by_points, value=2)
    if by_weight is not None and by.weight_norm is not None:
        by_norm = by.weight_norm.view(-1, *[1] * (weight.dim() - 1))
        by_weight.addcmul_(weight, by_norm, value=2)
    return by_x, by_weight


def _recomputed(
    ctx: Any, grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, units: Units
) -> list[torch.Tensor | None]:
    """Give the gradients of input, weight and units through the plain operations."""
    graph = torch.is_grad_enabled()
    operands = (x, weight, *units)
    with torch.enable_grad():
        y = plain_product(ctx.geometry, ctx.floor, x, weight, units).y
    wanted = [operand for operand, need in zip(operands, ctx.needs_input_grad[2:], strict=True) if need]
    found = iter(torch.autograd.grad(y, wanted, grad, create_graph=graph))
    return [next(found) if need else None for need in ctx.needs_input_grad[2:]]

"""The Yat product of a linear map as one autograd function, for tensors that have memory of their own."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import Function

from bioconvert.functional.cosine import Sphere
from bioconvert.functional.eager import is_batched
from bioconvert.functional.layout import Layout, layout_of
from bioconvert.functional.linear_map import LinearMap
from bioconvert.functional.plain import plain_product
from bioconvert.functional.precision import without_autocast
from bioconvert.functional.totals import Total, squared_sum
from bioconvert.functional.triton_switch import kernel_for
from bioconvert.functional.units import Units
from bioconvert.functional.yat_formula import Coefficient, Terms
from bioconvert.functional.yat_kernel import Kept

_X, _ALPHA = 4, 7
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
        spherical: bool,
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
        sphere, norms = None, _norms(x, weight, geometry, layout)
        if spherical:
            sphere = Sphere(*norms)
            sphere.scale(score)
            norms = (torch.ones_like(norms[0]), torch.ones_like(norms[1]))
        terms = Terms._make((*norms, *Units(*units).map(layout.spread)))
        score_is_kept = graph and (spherical or ctx.needs_input_grad[_ALPHA])
        y = torch.empty_like(plain) if score_is_kept else plain
        found = kernel_for(score).forward(score, terms, floor, out=layout.arrange(y), keep=graph)
        tensors = [unit if isinstance(unit, torch.Tensor) else None for unit in units]
        kept = (found.quotient, found.far, score if score_is_kept else None)
        ctx.save_for_backward(x, weight, *kept, *(sphere or (None, None)), *tensors)
        ctx.numbers = [None if isinstance(unit, torch.Tensor) else unit for unit in units]
        ctx.geometry, ctx.floor, ctx.layout, ctx.spherical = geometry, floor, layout, spherical
        ctx.shapes = [term.shape if isinstance(term, torch.Tensor) else None for term in terms]
        ctx.mark_non_differentiable(found.near)
        return y, found.near

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[torch.Tensor | None, ...]:
        """Give the gradients of input, weight and units."""
        # Read once: under gradient checkpointing a second look is an error.
        x, weight, quotient, far, biased, *rest = ctx.saved_tensors
        norms, tensors = rest[:2], rest[2:]
        pairs = zip(tensors, ctx.numbers, strict=True)
        units = Units._make(number if tensor is None else tensor for tensor, number in pairs)
        with without_autocast(x):
            if torch.is_grad_enabled() or is_batched(grads[0]):
                return None, None, None, None, *_recomputed(ctx, grads[0], x, weight, units)
            sums = _sums(ctx, quotient)
            alpha = units.map(ctx.layout.spread).alpha
            kept = Kept(quotient, far, biased)
            by_score = kernel_for(quotient).backward(
                ctx.layout.arrange(grads[0]), kept, alpha, ctx.floor, sums
            )
            totals = {name: total.value() for name, total in sums.items()}
            if ctx.spherical:
                _leave_sphere(Sphere(*norms), by_score, biased, units.map(ctx.layout.spread).bias, totals)
            by_operands = _pulled_back(ctx, by_score, totals, x, weight)
            return None, None, None, None, *by_operands, *_by_units(totals, tensors)


def _norms(
    x: torch.Tensor, weight: torch.Tensor, geometry: LinearMap, layout: Layout
) -> tuple[torch.Tensor, torch.Tensor]:
    own = layout_of(x, geometry.groups)
    of_points = own.restore(squared_sum(own.arrange(x), own.channels))
    of_weights = geometry.weight_norm(weight, x.shape[2:], squared_sum)
    return layout.arrange(geometry.input_norm(of_points)), layout.arrange(of_weights)


def _sums(ctx: Any, like: torch.Tensor) -> dict[str, Total]:
    wanted = zip(Terms._fields, ctx.shapes, ctx.needs_input_grad[_X:], strict=True)
    sought = {name: shape for name, shape, need in wanted if need and shape is not None}
    # On the sphere both norms are 1, whatever the operands.
    constant = {"input_norm", "weight_norm"} if ctx.spherical else set()
    return {name: Total(like.new_empty(shape)) for name, shape in sought.items() if name not in constant}


def _leave_sphere(
    sphere: Sphere,
    by_score: torch.Tensor,
    biased: torch.Tensor,
    bias: Coefficient | None,
    totals: dict[str, torch.Tensor],
) -> None:
    """Turn the gradient of the cosine into that of the score, in place, and add the totals of both norms."""
    cosine = biased if bias is None else biased - bias
    totals["input_norm"], totals["weight_norm"] = sphere.falls(by_score, cosine)
    sphere.scale(by_score)


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
        y = plain_product(ctx.geometry, ctx.floor, x, weight, units, spherical=ctx.spherical).y
    operands = zip((x, weight, *units), needed, strict=True)
    wanted = [operand for operand, need in operands if need and isinstance(operand, torch.Tensor)]
    found = iter(torch.autograd.grad(y, wanted, grad, create_graph=graph))
    return [next(found) if need else None for need in needed]

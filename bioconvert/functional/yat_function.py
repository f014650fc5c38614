"""The Yat product as an autograd function that keeps its inputs and nothing else."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import Function

from bioconvert.functional import yat_formula, yat_kernel
from bioconvert.functional.eager import is_transformed
from bioconvert.functional.yat_formula import Terms


class YatFunction(Function):
    """Computes block by block and recomputes in backward, from the score and the :class:`Terms`.

    Where the backward gets a graph of its own (double backward) or batched gradients, it does so in plain
    operations, whose derivatives are right.
    """

    @staticmethod
    def forward(
        ctx: Any, floor: float, look: bool, score: torch.Tensor, *terms: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        ctx.floor, ctx.look = floor, look
        ctx.constants = [None if isinstance(term, torch.Tensor) else term for term in terms]
        tensors = [term if isinstance(term, torch.Tensor) else None for term in terms]
        ctx.save_for_backward(score, *tensors)
        ctx.save_for_forward(score, *tensors)
        y, least = yat_kernel.forward(score, Terms(*terms), floor, look=look)
        if least is not None:
            ctx.mark_non_differentiable(least)
        return y, least

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        score, terms = _operands(ctx)
        if torch.is_grad_enabled() or is_transformed():
            return None, None, *yat_formula.gradients(grads[0], score, terms, ctx.floor)
        needed, masked = ctx.needs_input_grad[3:], not ctx.look
        return None, None, *yat_kernel.backward(
            grads[0], score, terms, ctx.floor, needed=needed, masked=masked
        )

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[torch.Tensor, None]:
        score, terms = _operands(ctx)
        return yat_formula.tangent(score, terms, ctx.floor, tangents[2:]), None


def _operands(ctx: Any) -> tuple[torch.Tensor, Terms]:
    score, *tensors = ctx.saved_tensors
    pairs = zip(tensors, ctx.constants, strict=True)
    return score, Terms(*(constant if tensor is None else tensor for tensor, constant in pairs))

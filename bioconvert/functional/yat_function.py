"""The Yat product as an autograd function that keeps its inputs and nothing else."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import Function

from bioconvert.functional import yat_formula, yat_kernel
from bioconvert.functional.yat_formula import Gradients, Terms

_TERMS = len(Terms._fields)


class YatFunction(Function):
    """Inputs are the score, each of the :class:`Terms`, the floor, and whether to look for near pairs.

    The backward recomputes from the inputs. With a graph of its own (double backward, ``torch.func``) it does so
    in plain operations, whose derivatives are right; otherwise block by block.
    """

    @staticmethod
    def forward(score: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
        terms, floor, look = Terms(*rest[:_TERMS]), *rest[_TERMS:]
        return yat_kernel.forward(score, terms, floor, look=look)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        *operands, ctx.floor, ctx.look = inputs
        tensors = [operand if isinstance(operand, torch.Tensor) else None for operand in operands]
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)
        ctx.constants = [None if isinstance(operand, torch.Tensor) else operand for operand in operands]
        if output[1] is not None:
            ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        score, terms = _operands(ctx)
        if torch.is_grad_enabled():
            found = yat_formula.gradients(grads[0], score, terms, ctx.floor)
        else:
            needed = ctx.needs_input_grad[1 : 1 + _TERMS]
            found = _Gradients.apply(grads[0], score, *terms, ctx.floor, ctx.look, needed)
        return (*found, None, None)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[torch.Tensor, None]:
        score, terms = _operands(ctx)
        return yat_formula.tangent(score, terms, ctx.floor, tangents[: 1 + _TERMS]), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Any, Any]:
        *operands, floor, _ = inputs
        apply = torch.vmap(
            lambda score, *terms: yat_formula.value(score, Terms(*terms), floor), tuple(in_dims[: 1 + _TERMS])
        )
        return (apply(*operands), None), (0, None)


class _Gradients(Function):
    """The gradients where no graph of them is wanted; a function so that it can be batched."""

    @staticmethod
    def forward(grad: torch.Tensor, score: torch.Tensor, *rest: Any) -> Gradients:
        terms, floor, look, needed = Terms(*rest[:_TERMS]), *rest[_TERMS:]
        return yat_kernel.backward(grad, score, terms, floor, needed=needed, masked=not look)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Gradients) -> None:
        """Keep nothing: there is no graph."""

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Gradients, Any]:
        *operands, floor, _, _ = inputs
        given = [isinstance(operand, torch.Tensor) for operand in operands[1:]]

        def found(grad: torch.Tensor, score: torch.Tensor, *terms: Any) -> Gradients:
            all_of_them = yat_formula.gradients(grad, score, Terms(*terms), floor)
            return tuple(gradient for gradient in all_of_them if gradient is not None)

        batched = iter(torch.vmap(found, tuple(in_dims[: 2 + _TERMS]))(*operands))
        return tuple(next(batched) if g else None for g in given), tuple(0 if g else None for g in given)


def _operands(ctx: Any) -> tuple[torch.Tensor, Terms]:
    pairs = zip(ctx.saved_tensors, ctx.constants, strict=True)
    score, *terms = (constant if tensor is None else tensor for tensor, constant in pairs)
    return score, Terms(*terms)

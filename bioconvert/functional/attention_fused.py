"""Yat attention as one autograd function that works tile by tile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.autograd import Function

from bioconvert.functional.attention_backward import Backward, Incoming
from bioconvert.functional.attention_dropout import Draw
from bioconvert.functional.attention_formula import Scoring, causal_mask, plain_attention
from bioconvert.functional.attention_scores import Scores
from bioconvert.functional.attention_softmax import RunningSoftmax
from bioconvert.functional.attention_tiles import Tile, Tiling, rooms
from bioconvert.functional.eager import is_batched
from bioconvert.functional.precision import without_autocast


class Manner(NamedTuple):
    """How attention is computed.

    Args:
        cut: the tiles.
        scale: factor of the logits.
        floor: least squared distance, in units of the squared norms.
        causal: whether a query sees no key behind its own place.
        draw: draws what is dropped, if anything is.
        keep: whether the products of queries and keys are kept for backward, or computed again.
        weights: whether the weights are given too, for which the rows must be whole.
    """

    cut: Tiling
    scale: float
    floor: float
    causal: bool
    draw: Draw | None
    keep: bool
    weights: bool


class FusedAttention(Function):
    """Keeps queries, keys, values, output and the logarithm of each row's sum of exponentials.

    If told to, it keeps the products of queries and keys too, and nothing else of their size. Where the
    backward is to have a graph of its own, or gradients come in batches, it goes through the plain
    operations.
    """

    @staticmethod
    def forward(ctx: Any, how: Manner, *operands: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Give the output and, if asked for, the weights."""
        q, k, v = operands[:3]
        scores = _scores(how, operands)
        out, logarithm = q.new_empty(*q.shape[:3], v.shape[3]), q.new_empty(*q.shape[:3], 1)
        products, weights = (
            q.new_empty(*q.shape[:3], k.shape[2]) if wanted else None for wanted in (how.keep, how.weights)
        )
        space, near = rooms(q, how.cut.largest), []
        for band in how.cut.bands():
            row = RunningSoftmax()
            for tile in how.cut.tiles(band, causal=how.causal):
                t = scores.product(tile, _place(products, tile, space.first))
                logits, found = scores.logits_of(t, tile, tile.shaped(space.second))
                near.append(found)
                kept = None if how.draw is None else how.draw.of(tile, t)
                powers = row.add(logits, tile.of_keys(v), kept)
            divisor = row.finish(band.of_queries(out), band.of_queries(logarithm))
            if weights is not None:
                torch.div(powers, divisor, out=band.of_pairs(weights))
        tensors = (each if isinstance(each, torch.Tensor) else None for each in operands)
        ctx.save_for_backward(*tensors, out, logarithm, products)
        ctx.numbers = [None if isinstance(each, torch.Tensor) else each for each in operands]
        ctx.how, ctx.near = how, near
        ctx.set_materialize_grads(False)
        return out, weights

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        """Give the gradients of queries, keys, values, mask, alpha and epsilon."""
        *tensors, out, logarithm, products = ctx.saved_tensors
        operands = [
            number if tensor is None else tensor for tensor, number in zip(tensors, ctx.numbers, strict=True)
        ]
        given = [grad for grad in grads if grad is not None]
        needed = ctx.needs_input_grad[1:]
        if not given:
            return (None,) * (1 + len(needed))
        with without_autocast(given[0]):
            if torch.is_grad_enabled() or any(is_batched(grad) for grad in given):
                return None, *_recomputed(ctx.how, grads, operands, needed)
            found = _backward(ctx, Incoming(operands[2], out, logarithm, *grads), operands, products)
        return None, *(each if need else None for each, need in zip(found, needed, strict=True))


def _backward(
    ctx: Any, incoming: Incoming, operands: list[Any], products: torch.Tensor | None
) -> tuple[torch.Tensor | None, ...]:
    """Give the gradients of all operands."""
    how, near = ctx.how, iter(ctx.near)
    scores = _scores(how, operands)
    sums = Backward(scores, incoming, how.draw, operands[4:], needed=ctx.needs_input_grad[4:])
    space = rooms(scores.q, how.cut.largest)
    room = scores.q.new_empty(0 if products is not None else how.cut.largest)
    for band in how.cut.bands():
        for tile in how.cut.tiles(band, causal=how.causal):
            t = _place(products, tile, room)
            if products is None:
                scores.product(tile, t)
            sums.add(t, tile, space, look=next(near))
    return sums.gradients()


def _recomputed(
    how: Manner, grads: tuple[torch.Tensor | None, ...], operands: list[Any], needed: tuple[bool, ...]
) -> list[torch.Tensor | None]:
    """Give the gradients of all operands through the plain operations."""
    graph = torch.is_grad_enabled()
    with torch.enable_grad():
        # Aliases, since one operand may have been computed from another: each gradient is to end at its own.
        aliases = [each.view_as(each) if isinstance(each, torch.Tensor) else each for each in operands]
        q, k, v, mask, alpha, epsilon = aliases
        if how.causal:
            hidden = causal_mask(q.shape[2], k.shape[2], q)
            mask = hidden if mask is None else mask + hidden
        kept = None if how.draw is None else how.draw.whole(how.cut, q)
        outputs = plain_attention(q, k, v, mask, Scoring(alpha, epsilon, how.scale, how.floor), kept)
    pairs = [(one, grad) for one, grad in zip(outputs, grads, strict=True) if grad is not None]
    wanted = [each for each, need in zip(aliases, needed, strict=True) if need]
    given, by_given = zip(*pairs, strict=True)
    found = iter(torch.autograd.grad(given, wanted, by_given, create_graph=graph, allow_unused=True))
    return [next(found) if need else None for need in needed]


def _scores(how: Manner, operands: Sequence[Any]) -> Scores:
    q, k, _, mask, alpha, epsilon = operands
    return Scores(q, k, mask, Scoring(alpha, epsilon, how.scale, how.floor), causal=how.causal)


def _place(whole: torch.Tensor | None, tile: Tile, room: torch.Tensor) -> torch.Tensor:
    """Give where a tile's part of a tensor lies: in the tensor, or in memory for one tile."""
    return tile.shaped(room) if whole is None else tile.of_pairs(whole)

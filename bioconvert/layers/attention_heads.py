"""From the arguments of a multi-head attention to queries, keys, values and masks of its heads, and back."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from bioconvert.layers.nested import padded

_Optional = torch.Tensor | None


class Sequences(NamedTuple):
    """Query, key and value as dense tensors, and what hides keys.

    Args:
        query: as given, but for a nested tensor.
        key: likewise.
        value: likewise.
        padding: which keys are hidden, or what is added to their logits.
        ends: what lies behind the ends of nested sequences; ``None`` for dense ones.
    """

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    padding: _Optional
    ends: _Optional


class Heads(NamedTuple):
    """What the heads work on: queries, keys, values and a mask that is added to the logits."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    mask: _Optional


def sequences(
    module: nn.MultiheadAttention,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    padding: _Optional,
    mask: _Optional,
) -> Sequences:
    """Pad what is nested.

    Raises:
        TypeError: a nested tensor comes with what it excludes.
    """
    if not (query.is_nested or key.is_nested or value.is_nested):
        return Sequences(query, key, value, padding, None)
    _check_nested(module, query, key, value, (padding, mask))
    filled, ends = padded(query)
    return Sequences(filled, filled, filled, ends, ends)


def split_heads(
    module: nn.MultiheadAttention, given: Sequences, mask: _Optional, *, causal: bool, hinted: bool
) -> Heads:
    """Project, split into heads, and merge the masks.

    Args:
        module: the attention.
        given: query, key, value and padding.
        mask: what hides keys from queries, or is added to their logits.
        causal: whether the mask is said to be causal.
        hinted: whether that saying stands for the mask.

    Raises:
        ValueError: shapes don't fit, or it is said to be causal and there is no mask.
        TypeError: a mask is neither boolean nor floating.
    """
    query, key, value, padding, _ = given
    if causal and mask is None:
        raise ValueError("is_causal says that attn_mask is causal: give attn_mask too")
    _check_sequences(query, key, value, module.batch_first)
    q, k, v = (_split(module, each) for each in _projected(module, query, key, value))
    merged = _merged(q, k, None if hinted else mask, padding, query.dtype)
    return Heads(q, *_extended(module, k, v, merged))


def shaped_weights(weights: _Optional, query: torch.Tensor, *, average: bool) -> _Optional:
    """Give weights :math:`(N, h, L, S)` as a caller wants them: the heads' mean, or without a batch."""
    if weights is None:
        return None
    weights = weights.mean(dim=1) if average else weights
    return weights if query.dim() == 3 else weights.squeeze(0)


def _check_nested(
    module: nn.MultiheadAttention,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    masks: tuple[_Optional, _Optional],
) -> None:
    if not (query is key and key is value and module.batch_first):
        raise TypeError("a nested tensor must be query, key and value at once, with batch_first")
    if any(mask is not None for mask in masks):
        raise TypeError(
            "a nested tensor holds its padding itself: key_padding_mask and attn_mask must be None"
        )


def _check_sequences(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, batch_first: bool) -> None:
    if query.dim() not in (2, 3) or not query.dim() == key.dim() == value.dim():
        dims = f"{query.dim()}, {key.dim()} and {value.dim()}"
        raise ValueError(f"query, key and value must all have 2 or all 3 dimensions, got {dims}")
    if key.shape[:-1] != value.shape[:-1]:
        shapes = f"{tuple(key.shape)} and {tuple(value.shape)}"
        raise ValueError(f"key and value must have the same batch and length, got {shapes}")
    batch = 0 if batch_first else 1
    if query.dim() == 3 and query.size(batch) != key.size(batch):
        raise ValueError(
            f"query and key must have the same batch, got {query.size(batch)} and {key.size(batch)}"
        )


def _projected(
    module: nn.MultiheadAttention, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """Apply the input projections; one multiplication where one tensor is query, key and value."""
    packed, bias = module.in_proj_weight, module.in_proj_bias
    if packed is not None and query is key and key is value:
        return F.linear(query, packed, bias).chunk(3, dim=-1)
    rows = (
        packed.chunk(3)
        if packed is not None
        else (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)
    )
    biases = bias.chunk(3) if bias is not None else (None, None, None)
    return tuple(
        F.linear(each, weight, own)
        for each, weight, own in zip((query, key, value), rows, biases, strict=True)
    )


def _split(module: nn.MultiheadAttention, sequence: torch.Tensor) -> torch.Tensor:
    """Turn a projected sequence, in the module's layout, into heads :math:`(N, h, L, d)`."""
    if sequence.dim() == 2:
        sequence = sequence.unsqueeze(0)
    elif not module.batch_first:
        sequence = sequence.transpose(0, 1)
    return sequence.view(*sequence.shape[:-1], module.num_heads, module.head_dim).transpose(1, 2)


def join_heads(module: nn.MultiheadAttention, heads: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """Undo the splitting, in the layout of the query."""
    sequence = heads.transpose(1, 2)
    if query.dim() == 2:
        sequence = sequence.squeeze(0)
    elif not module.batch_first:
        sequence = sequence.transpose(0, 1)
    return sequence.flatten(-2)


def _merged(
    q: torch.Tensor, k: torch.Tensor, attention: _Optional, padding: _Optional, dtype: torch.dtype
) -> _Optional:
    """Give both masks as one that is added to the scores, :math:`(N, h, L, S)` where it doesn't broadcast."""
    batch, heads, length = q.shape[:3]
    if attention is not None:
        attention = _additive("attn_mask", attention, dtype)
        attention = _broadcastable(attention, batch, heads, (length, k.size(2)))
    if padding is None:
        return attention
    padding = _additive("key_padding_mask", padding, dtype)
    if padding.dim() == 1 and batch == 1:
        padding = padding.unsqueeze(0)
    if padding.shape != (batch, k.size(2)):
        expected = f"(batch, keys) = {(batch, k.size(2))}"
        raise ValueError(f"key_padding_mask must have the shape {expected}, got {tuple(padding.shape)}")
    padding = padding[:, None, None]
    return padding if attention is None else attention + padding


def _broadcastable(mask: torch.Tensor, batch: int, heads: int, scores: tuple[int, int]) -> torch.Tensor:
    if mask.shape == scores:
        return mask[None, None]
    if mask.shape == (batch * heads, *scores):
        return mask.view(batch, heads, *scores)
    expected = f"(queries, keys) = {scores} or (batch · heads, queries, keys) = {(batch * heads, *scores)}"
    raise ValueError(f"attn_mask must have the shape {expected}, got {tuple(mask.shape)}")


def _additive(name: str, mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, -math.inf)
    if not mask.is_floating_point():
        raise TypeError(f"{name} must be boolean or floating, got {mask.dtype}")
    return mask


def _extended(
    module: nn.MultiheadAttention, k: torch.Tensor, v: torch.Tensor, mask: _Optional
) -> tuple[torch.Tensor, torch.Tensor, _Optional]:
    """Append the learnt key and value, and those of zeros, where the module has them; no mask hides them."""
    length = k.size(2)
    if module.bias_k is not None and module.bias_v is not None:
        shape = (module.num_heads, 1, module.head_dim)
        k = torch.cat([k, module.bias_k.view(shape).expand(k.size(0), *shape)], dim=2)
        v = torch.cat([v, module.bias_v.view(shape).expand(v.size(0), *shape)], dim=2)
    if module.add_zero_attn:
        k, v = F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))
    added = k.size(2) - length
    return k, v, F.pad(mask, (0, added)) if mask is not None and added else mask

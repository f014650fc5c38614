"""Multi-head attention that calls its output projection instead of reading its weight."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from bioconvert.core.registry import layer, owner
from bioconvert.layers.acting import acts_as_original, with_idle_parameters
from bioconvert.layers.nested import nested, padded
from bioconvert.layers.tracing import traced_call

_Optional = torch.Tensor | None


@layer
@owner("torch.nn.MultiheadAttention")
class CallingMultiheadAttention(nn.MultiheadAttention):
    r"""An ``nn.MultiheadAttention`` whose ``out_proj`` is called as the module that it is.

    .. math::
        \text{head}_i = \operatorname{softmax}\!\left(\frac{Q_i K_i^\top}{\sqrt{d}} + M\right) V_i, \qquad
        y = \text{out\_proj}(\text{head}_1, \dots, \text{head}_h)

    An existing module becomes one by a change of its class. As long as ``out_proj`` acts as the original, it
    is the original, the fused kernel included.

    A nested tensor of the strided layout is taken for self-attention with ``batch_first`` and without masks.

    Shape:
        - Input: query :math:`(L, E)`, :math:`(L, N, E)` or, with ``batch_first``, :math:`(N, L, E)`; key and
          value likewise, of length :math:`S`.
        - Output: the shape of the query; and weights :math:`(N, L, S)`, :math:`(N, h, L, S)` or ``None``.
    """

    def acts_as_original(self) -> bool:
        """Say whether ``out_proj`` does, so that reading its weight gives what calling it would."""
        return acts_as_original(self.out_proj)

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        key_padding_mask: torch.Tensor | None = None,
        need_weights: bool = True,
        attn_mask: torch.Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend with ``query`` to ``key`` and give the projected ``value``, and the weights if asked for.

        Raises:
            ValueError: shapes don't fit, or ``is_causal`` comes without ``attn_mask``.
            TypeError: a mask is neither boolean nor floating, or a nested tensor comes with what it excludes.
        """
        given = query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
        if (recorded := traced_call(self, *given)) is not None:
            return recorded  # type: ignore[return-value]
        if self.acts_as_original():
            output, weights = super().forward(*given)
            return with_idle_parameters(output, (self.out_proj,)), weights
        ends = None
        if query.is_nested or key.is_nested or value.is_nested:
            _check_nested(self, query, key, value, (key_padding_mask, attn_mask))
            query, ends = padded(query)
            key, value, key_padding_mask = query, query, ends
        attended, weights = _attended(
            self, query, key, value, key_padding_mask, attn_mask, need_weights=need_weights, causal=is_causal
        )
        output = self.out_proj(attended)
        if weights is not None:
            weights = weights.mean(dim=1) if average_attn_weights else weights
            weights = weights if query.dim() == 3 else weights.squeeze(0)
        return output if ends is None else nested(output, ends), weights


def _attended(
    module: nn.MultiheadAttention,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    padding: _Optional,
    mask: _Optional,
    *,
    need_weights: bool,
    causal: bool,
) -> tuple[torch.Tensor, _Optional]:
    """Give what ``out_proj`` is to be called with, and the weights :math:`(N, h, L, S)` if asked for."""
    if causal and mask is None:
        raise ValueError("is_causal says that attn_mask is causal: give attn_mask too")
    _check_sequences(query, key, value, module.batch_first)
    q, k, v = (_split(module, each) for each in _projected(module, query, key, value))
    # The hint stands for the mask only where nothing is added to the mask and no weights are asked for.
    hinted = causal and padding is None and not need_weights
    mask = _merged(q, k, None if hinted else mask, padding, query.dtype)
    k, v, mask = _extended(module, k, v, mask)
    dropout = module.dropout if module.training else 0.0
    if need_weights:
        weights = _weights(q, k, mask, dropout)
        return _joined(module, weights @ v, query), weights
    heads = F.scaled_dot_product_attention(q, k, v, mask, dropout, hinted)
    return _joined(module, heads, query), None


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


def _joined(module: nn.MultiheadAttention, heads: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """Undo :func:`_split`, in the layout of the query."""
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


def _weights(q: torch.Tensor, k: torch.Tensor, mask: _Optional, dropout: float) -> torch.Tensor:
    scores = (q * math.sqrt(1 / q.size(-1))) @ k.transpose(-2, -1)
    # Autocast may have chosen another type for the scores than the query's, which is the mask's.
    masked = scores if mask is None else scores + mask.to(scores.dtype)
    weights = torch.softmax(masked, dim=-1)
    return F.dropout(weights, dropout) if dropout else weights

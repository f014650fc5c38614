"""Multi-head attention that calls its output projection instead of reading its weight."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from bioconvert.core.registry import layer, owner
from bioconvert.layers.acting import acts_as_original, with_idle_parameters
from bioconvert.layers.attention_heads import Sequences, join_heads, sequences, shaped_weights, split_heads
from bioconvert.layers.nested import nested
from bioconvert.layers.tracing import traced_call


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
        sequenced = sequences(self, query, key, value, key_padding_mask, attn_mask)
        attended, weights = _attended(self, sequenced, attn_mask, need_weights=need_weights, causal=is_causal)
        output = self.out_proj(attended)
        weights = shaped_weights(weights, sequenced.query, average=average_attn_weights)
        return output if sequenced.ends is None else nested(output, sequenced.ends), weights


def _attended(
    module: nn.MultiheadAttention,
    given: Sequences,
    mask: torch.Tensor | None,
    *,
    need_weights: bool,
    causal: bool,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Give what ``out_proj`` is to be called with, and the weights :math:`(N, h, L, S)` if asked for."""
    # The hint stands for the mask only where nothing is added to the mask and no weights are asked for.
    hinted = causal and given.padding is None and not need_weights
    q, k, v, mask = split_heads(module, given, mask, causal=causal, hinted=hinted)
    dropout = module.dropout if module.training else 0.0
    if need_weights:
        weights = _weights(q, k, mask, dropout)
        return join_heads(module, weights @ v, given.query), weights
    heads = F.scaled_dot_product_attention(q, k, v, mask, dropout, hinted)
    return join_heads(module, heads, given.query), None


def _weights(q: torch.Tensor, k: torch.Tensor, mask: torch.Tensor | None, dropout: float) -> torch.Tensor:
    scores = (q * math.sqrt(1 / q.size(-1))) @ k.transpose(-2, -1)
    # Autocast may have chosen another type for the scores than the query's, which is the mask's.
    masked = scores if mask is None else scores + mask.to(scores.dtype)
    weights = torch.softmax(masked, dim=-1)
    return F.dropout(weights, dropout) if dropout else weights

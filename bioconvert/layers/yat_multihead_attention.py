"""The Yat counterpart of ``nn.MultiheadAttention``."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from bioconvert.core.registry import layer
from bioconvert.functional import yat_attention
from bioconvert.functional.yat_formula import Coefficient
from bioconvert.layers.attention_heads import join_heads, sequences, shaped_weights, split_heads
from bioconvert.layers.multihead_attention import CallingMultiheadAttention
from bioconvert.layers.nested import nested
from bioconvert.layers.tolerance import tolerate
from bioconvert.layers.tracing import traced_call
from bioconvert.layers.yat_attention_options import (
    AttentionAlpha,
    yat_attention_attributes,
    yat_attention_parameters,
)

_DEFAULTS = yat_attention_attributes()


@layer
class YatMultiheadAttention(CallingMultiheadAttention):
    r"""Attends by how well a query aligns with, and how near it lies to, each key.

    .. math::
        A_{ij} = \operatorname{softmax}_j\!\left(\frac{\alpha \, (q_i \cdot k_j)^2}
            {(\lVert q_i - k_j \rVert^2 + \varepsilon) \sqrt d} + M_{ij}\right), \qquad
        y = \text{out\_proj}(A^1 V^1, \dots, A^h V^h)

    with queries, keys and values projected as in ``nn.MultiheadAttention``, of which it takes every argument.
    A query from which every key is hidden attends to nothing: its heads give zeros. No kernel of torch's own
    takes its place, and ``out_proj`` is called as the module that it is.

    Args:
        embed_dim: size :math:`E` of the model, :math:`h d`.
        num_heads: number :math:`h` of heads.
        dropout: probability that an attention weight is dropped while training.
        bias: whether the projections have a bias.
        add_bias_kv: whether a learnt key and value are appended.
        add_zero_attn: whether a key and a value of zeros are appended.
        kdim: size of the keys before projection; ``None`` for :math:`E`.
        vdim: size of the values before projection; ``None`` for :math:`E`.
        batch_first: whether the batch comes before the sequence.
        device: where the parameters lie.
        dtype: their type; half precision is computed in fp32.
        alpha: :math:`\alpha`: ``"learnable"``, a constant, or ``"none"`` for 1.
        per_head: whether each head has an :math:`\alpha` of its own.
        epsilon: :math:`\varepsilon`, in units of :math:`\lVert q \rVert^2`; keeps the quotient finite where
            :math:`q_i = k_j`.
        learnable_epsilon: whether :math:`\varepsilon` is learnt, as the softplus of ``raw_epsilon``.
        spherical: whether :math:`q_i` and :math:`k_j` are brought to unit length first.
        block_size: number of queries and keys that are treated at once, so that memory grows with the
            sequence's length and not with its square, as long as no weights are asked for; ``None`` for all.

    Shape:
        - Input: query :math:`(L, E)`, :math:`(L, N, E)` or, with ``batch_first``, :math:`(N, L, E)`; key and
          value likewise, of length :math:`S`.
        - Output: the shape of the query; and weights :math:`(N, L, S)`, :math:`(N, h, L, S)` or ``None``.

    Raises:
        ValueError: an option is out of its bounds.

    Reference:
        Bouhsine, *Deep Learning 2.0: Artificial Neurons that Matter*, https://arxiv.org/abs/2411.08085

    Example:
        >>> x = torch.zeros(2, 5, 8)
        >>> output, weights = YatMultiheadAttention(8, 2, batch_first=True)(x, x, x)
        >>> output.shape, weights.shape
        (torch.Size([2, 5, 8]), torch.Size([2, 5, 5]))
    """

    alpha_mode: str
    per_head: bool
    learnable_epsilon: bool
    spherical: bool
    block_size: int | None
    floor: float

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        alpha: AttentionAlpha = "learnable",
        per_head: bool = False,
        epsilon: float = 1e-5,
        learnable_epsilon: bool = False,
        spherical: bool = False,
        block_size: int | None = None,
    ):
        options: dict[str, Any] = {
            "alpha": alpha,
            "per_head": per_head,
            "epsilon": epsilon,
            "learnable_epsilon": learnable_epsilon,
            "spherical": spherical,
            "block_size": block_size,
        }
        attributes = yat_attention_attributes(**options)
        super().__init__(
            embed_dim,
            num_heads,
            dropout,
            bias,
            add_bias_kv,
            add_zero_attn,
            kdim,
            vdim,
            batch_first,
            device=device,
            dtype=dtype,
        )
        for name, value in attributes.items():
            setattr(self, name, value)
        parameters = yat_attention_parameters(num_heads, **options)
        for name, (shape, start) in parameters.items():
            self.register_parameter(name, nn.Parameter(self.out_proj.weight.new_full(shape, start)))
        tolerate(self, parameters)
        # Torch's encoder layer calls an attention with a hook, instead of handing its weights to a kernel.
        self.register_forward_pre_hook(_stay_called)

    def acts_as_original(self) -> bool:
        """Say that it doesn't: its weights are others than those of the attention it was made of."""
        return False

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
        dense = sequences(self, query, key, value, key_padding_mask, attn_mask)
        # The hint stands for the mask where nothing is added to it.
        hinted = is_causal and dense.padding is None and not (self.add_zero_attn or self.bias_k is not None)
        q, k, v, mask = split_heads(self, dense, attn_mask, causal=is_causal, hinted=hinted)
        found = yat_attention(q, k, v, mask, **self._arguments(causal=hinted), need_weights=need_weights)
        heads, weights = found if isinstance(found, tuple) else (found, None)
        output = self.out_proj(join_heads(self, heads, dense.query))
        shown = shaped_weights(weights, dense.query, average=average_attn_weights)
        return output if dense.ends is None else nested(output, dense.ends), shown

    def _arguments(self, *, causal: bool) -> dict[str, Any]:
        """Give the keyword arguments of the functional counterpart."""
        return {
            "alpha": self._factor(),
            "epsilon": self._least_distance(),
            "spherical": self.spherical,
            "floor": self.floor,
            "dropout_p": self.dropout if self.training else 0.0,
            "is_causal": causal,
            "block_size": self.block_size,
        }

    def _factor(self) -> Coefficient | None:
        return None if self.alpha_mode == "none" else self.alpha  # type: ignore[return-value]

    def _least_distance(self) -> Coefficient:
        if self.learnable_epsilon:
            return F.softplus(self.raw_epsilon)  # type: ignore[arg-type]
        return self.epsilon  # type: ignore[return-value]

    def extra_repr(self) -> str:
        """Show the sizes and, of the options, those that differ from the default."""
        own = vars(self)
        differing = [f"{k}={own[k]}" for k, value in _DEFAULTS.items() if k in own and own[k] != value]
        if self.alpha_mode == "constant":
            differing.append(f"alpha={self.alpha}")
        return ", ".join((f"embed_dim={self.embed_dim}, num_heads={self.num_heads}", *differing))


def _stay_called(module: nn.Module, args: tuple[object, ...]) -> None:
    """Do nothing; see where it is registered."""

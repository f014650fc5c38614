"""A block of a transformer's decoder, for networks that are put together from nodes."""

from __future__ import annotations

import torch
from torch import nn

from bioconvert.core.errors import OptionError
from bioconvert.organism.config import DnoConfig


class GPTModel(nn.Module):
    r"""One block of a decoder, with norms before attention and perceptron.

    .. math::
        h = x + \operatorname{Attention}(\operatorname{LN}_1(x)), \qquad
        y = h + W_2 \operatorname{GELU}(W_0 \operatorname{LN}_2(h))

    Args:
        config: gives the width ``d_model``, ``n_heads`` and ``dropout_rate``.
        causal: whether a place attends only to itself and to those before it.

    Shape:
        - Input: :math:`(N, L, D)`, where :math:`D` is the width; :math:`(N, D)` counts as sequences of one.
        - Output: the same shape.

    Raises:
        OptionError: the width isn't a multiple of the number of heads.

    Example:
        >>> GPTModel(DnoConfig(d_model=8, n_heads=2))(torch.zeros(2, 5, 8)).shape
        torch.Size([2, 5, 8])
    """

    def __init__(self, config: DnoConfig, *, causal: bool = True):
        super().__init__()
        width, heads = config.d_model, config.n_heads
        if not width or not heads or width % heads:
            raise OptionError(f"d_model must be a multiple of n_heads, but is {width} with {heads} heads")
        self.causal = causal
        self.ln1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, dropout=config.dropout_rate, batch_first=True)
        self.ln2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Linear(4 * width, width),
            nn.Dropout(config.dropout_rate),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pass a sequence through the block."""
        sequence = x.unsqueeze(1) if x.ndim == 2 else x
        h = sequence + self._attended(self.ln1(sequence))
        y: torch.Tensor = h + self.mlp(self.ln2(h))
        return y.view(x.shape)

    def _attended(self, x: torch.Tensor) -> torch.Tensor:
        length = x.shape[1]
        mask = None
        if self.causal:
            mask = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        y: torch.Tensor = self.attn(x, x, x, attn_mask=mask, need_weights=False)[0]
        return y

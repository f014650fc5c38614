"""Our attention under the call of nmn's, for models whose code calls it that way."""

from __future__ import annotations

import copy

import torch

from bioconvert.layers.yat_multihead_attention import YatMultiheadAttention


class NmnAttention(YatMultiheadAttention):
    r"""A :class:`bioconvert.layers.YatMultiheadAttention` that is called as nmn's ``MultiHeadYatAttention``.

    It is what :func:`from_module` makes of one in a live model, whose code stays as it is.

    Shape:
        - Input: query :math:`(N, L, E)`, key and value :math:`(N, S, E)`; mask, broadcast to
          :math:`(N, h, L, S)`.
        - Output: :math:`(N, L, E)`.
    """

    def forward(  # type: ignore[override]
        self,
        query: torch.Tensor,
        key: torch.Tensor | None = None,
        value: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        *,
        deterministic: bool = False,
    ) -> torch.Tensor:
        """Attend with ``query`` to ``key`` and give the projected ``value``.

        Args:
            query: the queries.
            key: the keys; the queries by default.
            value: the values; the keys by default.
            mask: true where a query may attend to a key.
            deterministic: whether nothing is dropped, though training.
        """
        key = query if key is None else key
        value = key if value is None else value
        hidden = None
        if mask is not None:
            shape = (len(query), self.num_heads, query.shape[1], key.shape[1])
            hidden = mask.logical_not().expand(shape).flatten(0, 1)
        module: YatMultiheadAttention = self
        if deterministic and self.training:
            module = copy.copy(self)
            module.training = False
        output, _ = YatMultiheadAttention.forward(
            module, query, key, value, need_weights=False, attn_mask=hidden
        )
        return output

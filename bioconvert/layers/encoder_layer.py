"""The Transformer encoder layer that calls its children whenever one of them is not what it was."""

from __future__ import annotations

import torch
from torch import nn

from bioconvert.core.registry import layer, owner
from bioconvert.layers.acting import acts_as_original
from bioconvert.layers.nested import nested, padded
from bioconvert.layers.tracing import traced_call


@layer
@owner("torch.nn.TransformerEncoderLayer")
class CallingTransformerEncoderLayer(nn.TransformerEncoderLayer):
    """An ``nn.TransformerEncoderLayer`` that never hands replaced children's weights to the fused kernel.

    An existing layer becomes one by a change of its class. As long as every child acts as the original, it is
    the original, the fused kernel included; from then on it computes the same in evaluation under ``no_grad``
    as with gradients. Nested tensors of the strided layout are computed padded; they exclude masks.

    Shape:
        - Input: :math:`(S, E)`, :math:`(S, N, E)` or, with ``batch_first``, :math:`(N, S, E)`.
        - Output: the shape of the input.
    """

    def acts_as_original(self) -> bool:
        """Say whether every child does, so that the fused kernel gives what calling them would."""
        # Also those of an attention with a forward of its own, which can't speak for them.
        return all(acts_as_original(child) for child in (*self.children(), *self.self_attn.children()))

    @property
    def activation_relu_or_gelu(self) -> int:
        """Which activation the fused kernel is to apply; 0, where it must not be used, switches it off."""
        number: int = self.__dict__.get("activation_relu_or_gelu", 0)
        return number if self.acts_as_original() else 0

    @activation_relu_or_gelu.setter
    def activation_relu_or_gelu(self, number: int) -> None:
        self.__dict__["activation_relu_or_gelu"] = number

    def forward(
        self,
        src: torch.Tensor,
        src_mask: torch.Tensor | None = None,
        src_key_padding_mask: torch.Tensor | None = None,
        is_causal: bool = False,
    ) -> torch.Tensor:
        """Pass ``src`` through attention and feed-forward block.

        Raises:
            TypeError: ``src`` is nested, and there is a mask or its layout is jagged.
        """
        given = src, src_mask, src_key_padding_mask, is_causal
        if (recorded := traced_call(self, *given)) is not None:
            return recorded  # type: ignore[return-value]
        if not src.is_nested or self.acts_as_original():
            return super().forward(*given)
        if src_mask is not None or src_key_padding_mask is not None:
            raise TypeError(
                "a nested tensor holds its padding itself: src_mask and src_key_padding_mask must be None"
            )
        filled, padding = padded(src)
        return nested(super().forward(filled, None, padding, is_causal), padding)

"""The classes by which torch's own modules call the layers whose weights they would read otherwise."""

from bioconvert.layers.encoder_layer import CallingTransformerEncoderLayer
from bioconvert.layers.multihead_attention import CallingMultiheadAttention

__all__ = ["CallingMultiheadAttention", "CallingTransformerEncoderLayer"]

"""Multi-head attention becomes Yat attention on the same projections.

There is nothing to fit: bringing the logits to the original's spread, or to the original's logits by least
squares, did no better than α = 1 on encoders trained on scikit-learn's digits (50 and 56 % of test samples
against 56 % at once, of 96 %; 92, 90 and 91 % after twenty steps; means of three).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from bioconvert import layers
from bioconvert.core.change import Change, Site
from bioconvert.core.errors import Refused
from bioconvert.core.registry import replacement
from bioconvert.replacements.added import filled

if TYPE_CHECKING:
    from torch import nn


Positive = Annotated[float, Field(gt=0)]
Size = Annotated[int, Field(ge=1)]

_KEPT_AS_IS = (
    "the projections are kept as they are and the attention computes something else: train it further, with "
    "`morph` to go over gradually"
)


@replacement("YatMultiheadAttention", of="torch.nn.MultiheadAttention")
def yat_attention(
    layer: nn.MultiheadAttention,
    site: Site,  # noqa: ARG001 - one signature for all replacements
    *,
    alpha: Literal["learnable", "none"] | float = "learnable",
    per_head: bool = False,
    epsilon: Positive = 1e-5,
    learnable_epsilon: bool = False,
    spherical: bool = False,
    block_size: Size | None = None,
) -> Change:
    r"""Turn a multi-head attention into Yat attention, on the same projections.

    Args:
        layer: the attention.
        site: where it stands.
        alpha: the scale of the logits: learnable, none, or a constant.
        per_head: whether the scale is one for each head.
        epsilon: :math:`\varepsilon`.
        learnable_epsilon: whether :math:`\varepsilon` is learnt, through softplus.
        spherical: whether queries and keys are brought to unit length.
        block_size: number of queries and keys that are treated at once, so that memory grows with the
            sequence's length and not with its square.

    Raises:
        Refused: options don't go together.
    """
    options: dict[str, Any] = {
        "alpha": alpha,
        "per_head": per_head,
        "epsilon": epsilon,
        "learnable_epsilon": learnable_epsilon,
        "spherical": spherical,
        "block_size": block_size,
    }
    try:
        attributes = layers.yat_attention_attributes(**options)
    except ValueError as error:
        raise Refused(str(error)) from error
    like = "in_proj_weight" if layer.in_proj_weight is not None else "q_proj_weight"
    adds = layers.yat_attention_parameters(layer.num_heads, **options)
    return Change(
        into=layers.YatMultiheadAttention,
        attributes=attributes,
        adds={name: filled(shape, value, like=like) for name, (shape, value) in adds.items()},
        warnings=(_KEPT_AS_IS,),
    )

"""Embeddings become Yat embeddings: the lookup stays, and rows can be scored against queries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from bioconvert import layers
from bioconvert.core.change import Change, Site
from bioconvert.core.registry import replacement
from bioconvert.replacements.added import filled

if TYPE_CHECKING:
    from torch import nn


@replacement("YatEmbedding", of="torch.nn.Embedding")
def yat_embedding(
    layer: nn.Embedding,
    site: Site,  # noqa: ARG001 - one signature for all builders
    *,
    alpha: Literal["learnable", "exponent", "none"] | float = "none",
    per_unit: bool = False,
    epsilon: Annotated[float, Field(gt=0)] = 1e-5,
    learnable_epsilon: bool = False,
    spherical: bool = False,
    weight_normalized: bool = False,
) -> Change:
    r"""Let an embedding score queries against its rows; what it gives for indices stays bit for bit the same.

    Args:
        layer: the embedding.
        site: where it stands.
        alpha: the scale of the scores. A learnable one has no gradient before the model's code calls
            ``attend``, which who reduces gradients over processes would wait for.
        per_unit: whether scale and learnt epsilon are one for each row.
        epsilon: :math:`\varepsilon`.
        learnable_epsilon: whether :math:`\varepsilon` is learnt, through softplus.
        spherical: whether queries and rows are normalised for the scores.
        weight_normalized: whether rows are.
    """
    options: dict[str, Any] = {
        "alpha": alpha,
        "per_unit": per_unit,
        "epsilon": epsilon,
        "learnable_epsilon": learnable_epsilon,
        "spherical": spherical,
        "weight_normalized": weight_normalized,
    }
    added = layers.yat_parameters(layer.num_embeddings, **options)
    return Change(
        into=layers.YatEmbedding,
        attributes=layers.yat_attributes(**options),
        adds={name: filled(shape, value) for name, (shape, value) in added.items()},
        summary="the lookup stays as it is",
        warnings=(_IDLE,) if added else (),
    )


_IDLE = "what is learnt of the scores has no gradient unless the model's own code calls `attend`"

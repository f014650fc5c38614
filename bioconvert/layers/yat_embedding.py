"""The Yat counterpart of ``nn.Embedding``."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from bioconvert.core.registry import layer
from bioconvert.functional import yat_linear
from bioconvert.layers.yat_core import YatLayer
from bioconvert.layers.yat_options import Alpha, set_up


@layer
class YatEmbedding(YatLayer, nn.Embedding):
    r"""Looks rows up, and scores queries by how well they align with, and how near they lie to, each row.

    .. math::
        \operatorname{forward}(i) = w_i, \qquad
        \operatorname{attend}(q)_i = \alpha \, \frac{(w_i \cdot q)^2}{\lVert w_i - q \rVert^2 + \varepsilon}

    The lookup is that of ``nn.Embedding``. The options are those of the scores alone: where :meth:`attend`
    isn't called, a learnable alpha or epsilon has no gradient.

    Args:
        num_embeddings: number :math:`K` of rows :math:`w_i`.
        embedding_dim: size :math:`F` of each row.
        padding_idx: as for ``nn.Embedding``, like ``max_norm``, ``norm_type``, ``scale_grad_by_freq`` and
            ``sparse``.
        max_norm: largest norm of a row that is looked up.
        norm_type: which norm that is.
        scale_grad_by_freq: whether gradients are divided by how often a row was looked up.
        sparse: whether the gradient of the lookup is sparse.
        alpha: :math:`\alpha`: ``"learnable"``, a constant, ``"none"`` for 1, or ``"exponent"`` as for
            :class:`~bioconvert.layers.YatLinear`.
        per_unit: whether each row has an :math:`\alpha_i`, and a learnt :math:`\varepsilon_i`, of its own.
        epsilon: :math:`\varepsilon`, in units of :math:`\lVert q \rVert^2`.
        learnable_epsilon: whether :math:`\varepsilon` is learnt, as the softplus of ``raw_epsilon``.
        spherical: whether :math:`q` and :math:`w_i` are brought to unit length for the scores.
        weight_normalized: whether :math:`w_i` is.
        device: where the parameters lie.
        dtype: their type; half precision is computed in fp32.

    Shape:
        - Input: indices :math:`(*)`; a query :math:`(*, F)`.
        - Output: rows :math:`(*, F)`; scores :math:`(*, K)`, non-negative for :math:`\alpha > 0`.

    Raises:
        ValueError: an option is out of its bounds.

    Example:
        >>> embedding = YatEmbedding(10, 4)
        >>> rows = embedding(torch.tensor([1, 2]))
        >>> embedding.attend(rows).argmax(-1)
        tensor([1, 2])
    """

    bias: None = None
    """Scores have none."""

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        *,
        alpha: Alpha = "learnable",
        per_unit: bool = False,
        epsilon: float = 1e-5,
        learnable_epsilon: bool = False,
        spherical: bool = False,
        weight_normalized: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        if num_embeddings < 1 or embedding_dim < 1:
            raise ValueError(f"sizes must be positive, got {num_embeddings} × {embedding_dim}")
        of_lookup: dict[str, Any] = {
            "padding_idx": padding_idx,
            "max_norm": max_norm,
            "norm_type": norm_type,
            "scale_grad_by_freq": scale_grad_by_freq,
            "sparse": sparse,
        }
        super().__init__(num_embeddings, embedding_dim, **of_lookup, device=device, dtype=dtype)
        set_up(
            self,
            num_embeddings,
            alpha=alpha,
            per_unit=per_unit,
            epsilon=epsilon,
            learnable_epsilon=learnable_epsilon,
            spherical=spherical,
            weight_normalized=weight_normalized,
        )

    def reset_parameters(self) -> None:
        """Draw rows anew: standard normal, and zeros at ``padding_idx``."""
        nn.Embedding.reset_parameters(self)

    def forward_beside(self, output: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        """Give what the lookup of ``nn.Embedding`` gave: it is the same."""
        return output

    def attend(self, query: torch.Tensor) -> torch.Tensor:
        """Score ``query`` against each row."""
        return self._product(query)

    def _product(self, *args: Any, score: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor:
        (query,) = (*args, *kwargs.values())
        return yat_linear(query, self._effective_weight(), **self._unit_arguments(), score=score)

    @property
    def _units(self) -> int:
        return self.num_embeddings

    @property
    def _unit_axis(self) -> int:
        return -1

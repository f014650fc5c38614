"""The Möbius composer: its options and tensors, and a module that holds these."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import fx

from bioconvert.core.registry import layer
from bioconvert.functional.composer_mobius import MobiusOptions, compose_mobius, latent_size
from bioconvert.layers.composer import ComposerTensor
from bioconvert.layers.composer_draws import constant, dirichlet_rows, normal, one_pairs, uniform, xavier
from bioconvert.layers.tensor_composer import TensorComposer

# A leaf in a user's own symbolic_trace: what is inside looks at types, which a trace doesn't know.
fx.wrap("compose_mobius")

_CONCENTRATION, _DEVIATION = 0.5, 1e-3
"""How the projections start: Dirichlet real parts, and normal imaginary ones."""


@dataclass(frozen=True)
class MobiusComposer:
    """Composes matrices as :func:`compose_mobius` does.

    Args:
        n_subspaces: number of subspaces.
        rank_subspace: number of ranks in each.
        rank_transformations: number of control points that scale each side.
        asymmetry: least squared absolute value of what is inverted.
    """

    n_subspaces: int = 16
    rank_subspace: int = 16
    rank_transformations: int = 16
    asymmetry: float = 1e-3

    def tensors(self, rows: int, cols: int, context_length: int) -> dict[str, ComposerTensor]:
        """Describe the tensors.

        Raises:
            ValueError: an option is out of its bounds.
        """
        self._check()
        latent = latent_size(context_length, self.n_subspaces)
        subspaces, rank = self.n_subspaces, self.rank_subspace
        transforms = normal(
            (2 + 2 * self.rank_transformations, subspaces, latent, rank), 1 / math.sqrt(2 * latent)
        )
        return {
            "context_transform_weight": xavier(4 * latent, context_length),
            "context_transform_bias": constant((4 * latent,), 0.0),
            "space_i": uniform((1, subspaces, rank, rows, 2), 1.0),
            "space_j": uniform((1, subspaces, rank, cols, 2), 1.0),
            "inversions": one_pairs((1, subspaces, 1, 1, 2)),
            "direct_G_Re": transforms,
            "direct_G_Im": transforms,
            "w_mix": one_pairs((latent, subspaces * rank, 2)),
            "projections": dirichlet_rows((1, subspaces, rows, cols, 2), _CONCENTRATION, _DEVIATION),
        }

    def compose(
        self,
        context: torch.Tensor,
        tensors: Mapping[str, torch.Tensor],
        rows: int,  # noqa: ARG002 - the projections have the matrix's sides
        cols: int,  # noqa: ARG002
        *,
        training: bool = False,  # noqa: ARG002 - the same then
    ) -> torch.Tensor:
        """Give the matrices, [B, rows, cols]."""
        options = MobiusOptions(
            self.n_subspaces, self.rank_subspace, self.rank_transformations, self.asymmetry
        )
        return compose_mobius(context, tensors, options)

    def _check(self) -> None:
        for name in ("n_subspaces", "rank_subspace", "rank_transformations"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not self.asymmetry > 0:
            raise ValueError(f"asymmetry must be positive, got {self.asymmetry}")


@layer
class TensorComposerMobius(TensorComposer):
    r"""Composes one matrix of weights for each context, out of complex spaces that it shifts and inverts.

    .. math::
        a_{ch} = \sum_r \beta_{cr} \, \gamma_c \, (i_{crh} + s_{cr}) \, \mu_{crh}, \qquad
        b_{cw} = \sum_r \beta_{cr} \, \gamma_c / ((j_{crw} + t_{cr}) \, \nu_{crw}), \qquad
        W_{hw} = \sum_c \operatorname{Re}(a_{ch} b_{cw} \overline{\theta_{chw}})

    The context gives :math:`s, t, \mu, \nu` and :math:`\beta`; see
    :func:`bioconvert.functional.compose_mobius`.

    Args:
        context_length: length :math:`L` of a context vector.
        rows: number of rows :math:`H` of a matrix.
        cols: number of columns :math:`W`.
        n_subspaces: number of subspaces :math:`c`.
        rank_subspace: number of ranks :math:`r` in each.
        rank_transformations: number of control points that :math:`\mu` and :math:`\nu` are interpolated from.
        asymmetry: least squared absolute value of what is inverted.
        device: where the tensors are.
        dtype: their type; half precision is computed in fp32.

    Shape:
        - Input: :math:`(B, L)`.
        - Output: :math:`(B, H, W)`.

    Raises:
        ValueError: a size or an option is out of its bounds.

    Example:
        >>> TensorComposerMobius(16, 6, 9)(torch.zeros(2, 16)).shape
        torch.Size([2, 6, 9])
    """

    def __init__(
        self,
        context_length: int,
        rows: int,
        cols: int,
        *,
        n_subspaces: int = 16,
        rank_subspace: int = 16,
        rank_transformations: int = 16,
        asymmetry: float = 1e-3,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        composer = MobiusComposer(n_subspaces, rank_subspace, rank_transformations, asymmetry)
        super().__init__(composer, context_length, rows, cols, device, dtype)


WeightsLib2DMobius = TensorComposerMobius
"""The reference's older name."""

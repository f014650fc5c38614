"""The Delta composer: its options and tensors, and a module that holds these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import fx

from bioconvert.core.registry import layer
from bioconvert.functional.composer_delta import DeltaOptions, compose_delta
from bioconvert.layers.composer import ComposerTensor
from bioconvert.layers.composer_draws import constant, normal, xavier
from bioconvert.layers.tensor_composer import TensorComposer

# A leaf in a user's own symbolic_trace: what is inside looks at types, which a trace doesn't know.
fx.wrap("compose_delta")

_DEVIATION = 1e-4
"""Standard deviation that the banks start with."""


@dataclass(frozen=True)
class DeltaComposer:
    """Composes matrices as :func:`compose_delta` does.

    Args:
        rank: number of ranks.
        repulsion: how far similar ranks are pushed apart.
        noise: standard deviation of the noise on each rank's weights, in units of their own; training only.
        rank_noise: likewise on the logits of the ranks.
        similarity: strength of the gradient of the ranks' similarity.
        temperature: what the logits of the ranks are divided by, to start with.
    """

    rank: int = 4
    repulsion: float = 0.3
    noise: float = 0.01
    rank_noise: float = 0.01
    similarity: float = 0.1
    temperature: float = 5.0

    def tensors(self, rows: int, cols: int, context_length: int) -> dict[str, ComposerTensor]:
        """Describe the tensors.

        Raises:
            ValueError: an option is out of its bounds.
        """
        self._check()
        outputs = 26 * self.rank + 2
        return {
            "context_transform_weight": xavier(outputs, context_length),
            "context_transform_bias": constant((outputs,), 0.0),
            "weights": normal((1, self.rank, 2, 2, rows, cols, 2), _DEVIATION),
            "extras": constant((1,), self.temperature),
        }

    def compose(
        self,
        context: torch.Tensor,
        tensors: Mapping[str, torch.Tensor],
        rows: int,  # noqa: ARG002 - the banks have the matrix's sides
        cols: int,  # noqa: ARG002
        *,
        training: bool = False,
    ) -> torch.Tensor:
        """Give the matrices, [B, rows, cols]."""
        options = DeltaOptions(self.rank, self.repulsion, self.noise, self.rank_noise, self.similarity)
        return compose_delta(context, tensors, options, training=training)

    def _check(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank must be positive, got {self.rank}")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")
        for name in ("repulsion", "noise", "rank_noise", "similarity"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


@layer
class TensorComposerDelta(TensorComposer):
    r"""Composes one matrix of weights for each context, out of complex banks that it mixes by rank.

    .. math::
        u = \mu \, ((\tfrac12 + \lambda) B + (\tfrac12 - \lambda) A) + \nu, \qquad
        W = \sum_r \rho_r \operatorname{decorrelated}(\operatorname{stabilized}(
            \operatorname{Re}(u_{r1} \, \overline{u_{r2}}) / |u_{r2}|))

    The context gives :math:`\lambda, \mu, \nu` and :math:`\rho`; see
    :func:`bioconvert.functional.compose_delta`.

    Args:
        context_length: length :math:`L` of a context vector.
        rows: number of rows :math:`H` of a matrix.
        cols: number of columns :math:`W`.
        rank: number of ranks.
        repulsion: how far similar ranks are pushed apart.
        noise: standard deviation of the noise on each rank's weights, in units of their own; training only.
        rank_noise: likewise on the logits of the ranks.
        similarity: strength of the gradient of the ranks' similarity.
        temperature: what the logits of the ranks are divided by, to start with.
        device: where the tensors are.
        dtype: their type; half precision is computed in fp32.

    Shape:
        - Input: :math:`(B, L)`.
        - Output: :math:`(B, H, W)`.

    Raises:
        ValueError: a size or an option is out of its bounds.

    Example:
        >>> TensorComposerDelta(16, 6, 9)(torch.zeros(2, 16)).shape
        torch.Size([2, 6, 9])
    """

    def __init__(
        self,
        context_length: int,
        rows: int,
        cols: int,
        *,
        rank: int = 4,
        repulsion: float = 0.3,
        noise: float = 0.01,
        rank_noise: float = 0.01,
        similarity: float = 0.1,
        temperature: float = 5.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        composer = DeltaComposer(rank, repulsion, noise, rank_noise, similarity, temperature)
        super().__init__(composer, context_length, rows, cols, device, dtype)


WeightsLib2DDelta = TensorComposerDelta
"""The reference's older name."""

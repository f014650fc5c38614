"""The map of a linear layer with a matrix for each sample."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch.nn import functional as F

from bioconvert.functional.sample_maps import by_weight, kernels_for, only, only_bias


class Matrix(NamedTuple):
    """A matrix that acts on the last dimension of [N, …, F].

    Args:
        single: whether the batch, [1, F], was made of a vector, for which torch multiplies otherwise.
    """

    single: bool = False

    @property
    def channels(self) -> Literal["first", "last"]:
        """In the last dimension."""
        return "last"

    def for_input(self, x: torch.Tensor, weight: torch.Tensor) -> tuple[Matrix, bool]:
        """Tell a batch by its number of dimensions."""
        del weight
        single = x.dim() == 1
        return Matrix(single), single

    def plain(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """Multiply all samples by one matrix."""
        return F.linear(x[0], weight, bias).unsqueeze(0) if self.single else F.linear(x, weight, bias)

    def varied(self, x: torch.Tensor, weights: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """Multiply by matrices that belong to samples: one batched product."""
        count = kernels_for(x, weights)
        if count == 1:
            return self.plain(x, only(weights), only_bias(bias))
        rows, matrices = by_weight(x, count).flatten(1, -2), weights.transpose(1, 2)
        if bias is None:
            y = torch.bmm(rows, matrices)
        else:
            y = torch.baddbmm(bias.expand(count, -1).unsqueeze(1), rows, matrices)
        return y.view(*x.shape[:-1], weights.shape[1])

    def by_input(self, grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Multiply the gradient by the transposed matrix."""
        del x
        return grad @ weight

    def by_weights(self, grad: torch.Tensor, x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """Multiply gradients and inputs, each with its own."""
        count = like.shape[0]
        grads = grad.reshape(count, -1, grad.shape[-1])
        return torch.bmm(grads.transpose(1, 2), x.reshape(count, -1, x.shape[-1]))

    def by_bias(self, grad: torch.Tensor) -> torch.Tensor:
        """Sum over all but the channels."""
        return grad.reshape(-1, grad.shape[-1]).sum(0)

    def spread_gate(self, gate: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Put the channels into the matrix's rows."""
        del weight
        return gate.unsqueeze(1)

    def per_channel(self, product: torch.Tensor) -> torch.Tensor:
        """Sum over samples and inputs."""
        return product.sum(2).sum(0)

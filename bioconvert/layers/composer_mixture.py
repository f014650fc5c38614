"""A mixture of kernels, its shares chosen by the context."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from bioconvert.layers.composer import ComposerTensor
from bioconvert.layers.composer_draws import constant, normal, uniform


@dataclass(frozen=True)
class MixtureComposer:
    r"""Mixes K learnable matrices in shares that depend on the context.

    .. math::
        W(c) = \sum_k a_k M_k, \quad a = \operatorname{softmax}((R c + r) / T)

    Args:
        kernels: the number :math:`K` of matrices :math:`M_k`.
        temperature: :math:`T`; the higher, the more even are the shares.

    Shape:
        - Context :math:`c`: :math:`(B, L)`; matrices: :math:`(B, \text{rows}, \text{cols})`.
        - Tensors: ``kernels`` :math:`M`, :math:`(K, \text{rows}, \text{cols})`; ``router`` :math:`R`,
          :math:`(K, L)`; ``router_bias`` :math:`r`, :math:`(K)`.

    Raises:
        ValueError: an option is out of its bounds.

    Reference:
        Yang et al., *CondConv: Conditionally Parameterized Convolutions for Efficient Inference*,
        https://arxiv.org/abs/1904.04971; with a softmax: Chen et al., *Dynamic Convolution: Attention over
        Convolution Kernels*, https://arxiv.org/abs/1912.03458

    Example:
        >>> from bioconvert.core.random import Stream
        >>> composer, stream = MixtureComposer(kernels=2), Stream(0, "example")
        >>> made = composer.tensors(3, 5, context_length=4)
        >>> tensors = {name: tensor.parameter(stream, name) for name, tensor in made.items()}
        >>> composer.compose(torch.zeros(6, 4), tensors, 3, 5).shape
        torch.Size([6, 3, 5])
    """

    kernels: int = 4
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.kernels < 1:
            raise ValueError(f"kernels must be positive, got {self.kernels!r}")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature must be positive, got {self.temperature!r}")

    def tensors(self, rows: int, cols: int, context_length: int) -> dict[str, ComposerTensor]:
        """Describe kernels that start as those of torch's layers do, and the router.

        Raises:
            ValueError: a size is not positive.
        """
        for name, size in (("rows", rows), ("cols", cols), ("context_length", context_length)):
            if size < 1:
                raise ValueError(f"{name} must be positive, got {size!r}")
        return {
            "kernels": uniform((self.kernels, rows, cols), cols**-0.5),
            "router": normal((self.kernels, context_length), context_length**-0.5),
            "router_bias": constant((self.kernels,), 0.0),
        }

    def compose(
        self,
        context: torch.Tensor,
        tensors: Mapping[str, torch.Tensor],
        rows: int,
        cols: int,
        *,
        training: bool = False,
    ) -> torch.Tensor:
        """Mix the matrices, [B, rows, cols]; nothing is different in training."""
        del training
        mixed = self.shares(context, tensors) @ tensors["kernels"].flatten(1)
        return mixed.view(-1, rows, cols)

    def added(
        self,
        context: torch.Tensor,
        tensors: Mapping[str, torch.Tensor],
        weight: torch.Tensor,
        gate: torch.Tensor,
    ) -> torch.Tensor:
        """Give ``weight + gate * compose(…)`` in fewer passes over memory than there are samples.

        Args:
            context: one vector per sample.
            tensors: those of :meth:`tensors`, by name.
            weight: a weight whose matrix has the rows and columns of the composed ones.
            gate: broadcasts with the weight.
        """
        gated = gate * tensors["kernels"].view(-1, *weight.shape)
        merged = torch.addmm(weight.flatten(), self.shares(context, tensors), gated.flatten(1))
        return merged.view(-1, *weight.shape)

    def shares(self, context: torch.Tensor, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Give the shares, [B, K]; each row sums to 1."""
        logits = F.linear(context, tensors["router"], tensors["router_bias"])
        return torch.softmax(logits / self.temperature, dim=1)

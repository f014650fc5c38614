"""Count sketches, and the sketch of a tensor product, as modules that hold their random draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import fx, nn

from bioconvert.core.registry import layer
from bioconvert.functional.spectral_sketch import (
    compact_spectral_multiplier,
    count_sketch,
    draw_sketch,
    estimated_product,
)

# Leaves in a user's own symbolic_trace: what is inside looks at sizes and types, which a trace doesn't know.
fx.wrap("count_sketch")
fx.wrap("compact_spectral_multiplier")


@layer
class CountSketch(nn.Module):
    r"""Adds up features, with random signs, at random places.

    .. math::
        y_j = \sum_{i : h_i = j} s_i x_i

    Over random :math:`h` and :math:`s`, the inner product of two sketches is that of the vectors on average.

    Args:
        input_size: number of features :math:`d`.
        output_size: number of places :math:`D`.
        seed: decides the places :math:`h_i` and signs :math:`s_i`, which are independent and uniform, and are
            held in the buffers ``places`` and ``signs``; or a generator, on the CPU, that draws them.
        device: where they lie.

    Shape:
        - Input: :math:`(*, d)`, real or complex.
        - Output: :math:`(*, D)`.

    Raises:
        ValueError: a size isn't positive.

    Reference:
        Charikar, Chen & Farach-Colton, *Finding Frequent Items in Data Streams*, 2002.

    Example:
        >>> CountSketch(8, 3)(torch.zeros(2, 8)).shape
        torch.Size([2, 3])
    """

    places: torch.Tensor
    signs: torch.Tensor

    def __init__(
        self,
        input_size: int,
        output_size: int,
        *,
        seed: int | torch.Generator = 0,
        device: torch.device | str | None = None,
    ):
        super().__init__()
        self.input_size, self.output_size = input_size, output_size
        places, signs = draw_sketch(input_size, output_size, generator=_generator(seed))
        self.register_buffer("places", places.to(device))
        self.register_buffer("signs", signs.to(device))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Sketch the vectors ``input``."""
        return count_sketch(input, self.places, self.signs, self.output_size)

    def extra_repr(self) -> str:
        """Show the sizes."""
        return f"{self.input_size}, {self.output_size}"


@layer
class CompactSpectralMultiplier(nn.Module):
    r"""Sketches the tensor product of vectors as the circular convolution of their count sketches.

    .. math::
        \Phi(x_1, \dots, x_K)
            = \mathcal F^{-1} \Big( \prod_{k=1}^K \mathcal F(\operatorname{CS}_k(x_k)) \Big)

    :math:`\mathcal F` is the unitary Fourier transform. :meth:`estimate` tells products of inner products
    from two such sketches.

    Args:
        input_sizes: number of features :math:`d_k` of each input.
        output_size: :math:`D`.
        seed: decides the sketches, as for :class:`CountSketch`.
        device: where their buffers lie.

    Shape:
        - Inputs: :math:`(*, d_k)` each, real or complex, with batches that broadcast.
        - Output: :math:`(*, D)`, real where all inputs are.

    Raises:
        ValueError: no ``input_sizes``, or a size isn't positive.

    Reference:
        Pham & Pagh, *Fast and Scalable Polynomial Kernels via Explicit Feature Maps*, 2013.

    Example:
        >>> CompactSpectralMultiplier([4, 6], 32)(torch.ones(2, 4), torch.ones(2, 6)).shape
        torch.Size([2, 32])
    """

    def __init__(
        self,
        input_sizes: Sequence[int],
        output_size: int,
        *,
        seed: int | torch.Generator = 0,
        device: torch.device | str | None = None,
    ):
        if not input_sizes:
            raise ValueError("input_sizes must name at least one size, got none")
        super().__init__()
        generator = _generator(seed)
        self.output_size = output_size
        self.sketches = nn.ModuleList(
            CountSketch(size, output_size, seed=generator, device=device) for size in input_sizes
        )

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Sketch the tensor products of ``inputs``, of which there is one for each size."""
        sketches = [cast(CountSketch, sketch) for sketch in self.sketches]
        places, signs = [each.places for each in sketches], [each.signs for each in sketches]
        return compact_spectral_multiplier(inputs, places, signs, self.output_size)

    def estimate(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        r"""Estimate :math:`\prod_k \langle x_k, y_k \rangle` from the sketches of two tensor products."""
        return estimated_product(one, other, len(self.sketches))


def _generator(seed: int | torch.Generator) -> torch.Generator:
    return seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)

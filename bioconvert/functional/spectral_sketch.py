"""Short sketches of vectors, and of tensor products of vectors without forming these."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence

import torch

from bioconvert.functional.precision import score_dtype


def draw_sketch(
    input_size: int,
    output_size: int,
    *,
    batch: Sequence[int] = (),
    generator: torch.Generator | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw where each feature goes and with which sign, all independent and uniform.

    Args:
        input_size: number of features.
        output_size: number of places.
        batch: shape of the batch of independent sketches to draw; empty for one.
        generator: draws them, on the CPU; ``None`` for the default one.

    Returns:
        The places, int64, and the signs, int8, both of the shape (\\*batch, input_size).

    Raises:
        ValueError: a size isn't positive.
    """
    for name, size in (("input_size", input_size), ("output_size", output_size)):
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size!r}")
    shape = (*batch, input_size)
    places = torch.randint(output_size, shape, generator=generator)
    signs = torch.randint(2, shape, generator=generator, dtype=torch.int8) * 2 - 1
    return places, signs


def count_sketch(
    x: torch.Tensor, places: torch.Tensor, signs: torch.Tensor, output_size: int
) -> torch.Tensor:
    r"""Add up features that go to the same place.

    .. math::
        y_j = \sum_{i : h_i = j} s_i x_i

    Over random :math:`h` and :math:`s`, the inner product of two sketches is that of the vectors on average.

    Args:
        x: vectors :math:`x`.
        places: :math:`h_i`, int64, from 0 to ``output_size`` - 1.
        signs: :math:`s_i`, 1 or -1.
        output_size: number of places :math:`D`.

    Shape:
        - x: :math:`(*, d)`, real or complex.
        - places, signs: :math:`(d)`, or any that expands to the shape of ``x``: a sketch for each vector.
        - Output: :math:`(*, D)`.

    Reference:
        Charikar, Chen & Farach-Colton, *Finding Frequent Items in Data Streams*, 2002.

    Example:
        >>> count_sketch(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 1, 0]), torch.tensor([1, 1, -1]), 2)
        tensor([-3.,  2.])
    """
    signed = x * signs
    sketch = x.new_zeros(*x.shape[:-1], output_size)
    return sketch.scatter_add(-1, places.expand_as(signed), signed)


def compact_spectral_multiplier(
    inputs: Sequence[torch.Tensor],
    places: Sequence[torch.Tensor],
    signs: Sequence[torch.Tensor],
    output_size: int,
) -> torch.Tensor:
    r"""Sketch the tensor product of vectors as the circular convolution of their count sketches.

    .. math::
        \Phi(x_1, \dots, x_K)
            = \mathcal F^{-1} \Big( \prod_{k=1}^K \mathcal F(\operatorname{CS}_k(x_k)) \Big)

    :math:`\mathcal F` is the unitary Fourier transform. Half precision is computed in fp32.

    Args:
        inputs: the vectors :math:`x_k`.
        places: those of each count sketch; see :func:`count_sketch`.
        signs: likewise.
        output_size: :math:`D`.

    Shape:
        - inputs: :math:`(*, d_k)` each, real or complex, with batches that broadcast.
        - Output: :math:`(*, D)`, real where all inputs are.

    Raises:
        ValueError: there are no inputs, or not as many sketches as inputs.

    Reference:
        Pham & Pagh, *Fast and Scalable Polynomial Kernels via Explicit Feature Maps*, 2013.

    Example:
        >>> x = torch.ones(2, 8)
        >>> (places, signs), (others, other_signs) = draw_sketch(8, 16), draw_sketch(8, 16)
        >>> compact_spectral_multiplier([x, x], [places, others], [signs, other_signs], 16).shape
        torch.Size([2, 16])
    """
    if not inputs or not len(inputs) == len(places) == len(signs):
        counts = f"{len(inputs)} inputs, {len(places)} places and {len(signs)} signs"
        raise ValueError(f"each of one or more inputs needs its places and signs, got {counts}")
    dtype = functools.reduce(torch.promote_types, (x.dtype for x in inputs))
    wide = [x.to(dtype).to(score_dtype(x.to(dtype))) for x in inputs]
    sketches = [count_sketch(*each, output_size) for each in zip(wide, places, signs, strict=True)]
    if len(sketches) == 1:
        return _narrowed(sketches[0], dtype)
    there, back = (torch.fft.fft, torch.fft.ifft) if dtype.is_complex else (torch.fft.rfft, torch.fft.irfft)
    spectrum = functools.reduce(operator.mul, (there(sketch, norm="ortho") for sketch in sketches))
    return _narrowed(back(spectrum, n=output_size, norm="ortho"), dtype)


def estimated_product(one: torch.Tensor, other: torch.Tensor, factors: int) -> torch.Tensor:
    r"""Estimate the product of inner products from two sketches of tensor products.

    .. math::
        \prod_{k=1}^K \langle x_k, y_k \rangle
            \approx D^{K - 1} \operatorname{Re} \langle \Phi(x), \Phi(y) \rangle

    Args:
        one: :math:`\Phi(x)` of :func:`compact_spectral_multiplier`.
        other: :math:`\Phi(y)`, by the same sketches.
        factors: :math:`K`.

    Shape:
        - one, other: :math:`(*, D)`.
        - Output: :math:`(*)`.
    """
    size = one.shape[-1]
    product: torch.Tensor = torch.linalg.vecdot(one, other).real * float(size) ** (factors - 1)
    return product


def _narrowed(sketch: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Convert a sketch; what is too large for fp16 becomes its largest number."""
    if dtype == torch.float16:
        largest = torch.finfo(dtype).max
        sketch = sketch.clamp(-largest, largest)
    return sketch.to(dtype)

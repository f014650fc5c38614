"""The channels of a convolution, from the matrix that its kernels are cut out of."""

from __future__ import annotations

from collections.abc import Iterator
from math import isqrt
from typing import NamedTuple

from bioconvert.functional.kernel_folding import folded_shape


class Known(NamedTuple):
    """What is known of a convolution.

    Args:
        matrix: the sides of the composed matrix.
        kernel: the sides of a kernel.
        transpose: whether it is transposed.
        inputs: number of input channels; ``None`` where it isn't known.
        outputs: likewise of output channels.
    """

    matrix: tuple[int, int]
    kernel: tuple[int, int]
    transpose: bool
    inputs: int | None
    outputs: int | None


def fitting_channels(known: Known) -> list[tuple[int, int]]:
    """Give the numbers of input and output channels whose kernels are composed as such a matrix.

    Args:
        known: what is known.

    Example:
        >>> fitting_channels(Known((48, 48), (3, 3), False, None, 32))
        [(8, 32)]
    """
    (rows, cols), (height, width) = known.matrix, known.kernel
    if rows % height or cols % width:
        return []
    pairs = _divisors(rows // height * (cols // width))
    return [(inputs, outputs) for inputs, outputs in pairs if _fits(known, inputs, outputs)]


def _fits(known: Known, inputs: int, outputs: int) -> bool:
    if known.inputs not in (None, inputs) or known.outputs not in (None, outputs):
        return False
    outer, inner = (inputs, outputs) if known.transpose else (outputs, inputs)
    return folded_shape((outer, inner, *known.kernel)) == known.matrix


def _divisors(area: int) -> Iterator[tuple[int, int]]:
    """Give all pairs of numbers with a product, the smallest first numbers first."""
    small = [number for number in range(1, isqrt(area) + 1) if area % number == 0]
    yield from ((number, area // number) for number in small)
    yield from ((area // number, number) for number in reversed(small) if number * number != area)

"""The matrix that kernels are composed as, and how they are cut out of it."""

import pytest
import torch

from bioconvert.functional.kernel_folding import folded_shape, kernels_from

SHAPES = [
    ((32, 16, 3, 3), (96, 48)),
    ((64, 64, 3, 3), (192, 192)),
    ((64, 4, 3, 3), (48, 48)),
    ((4, 64, 3, 3), (48, 48)),
    ((6, 1, 1, 5), (6, 5)),
    ((48, 1, 3, 3), (18, 24)),
    ((7, 1, 3, 3), (21, 3)),
]


@pytest.mark.parametrize(("kernel", "expected"), SHAPES)
def test_sides_are_folded_towards_a_square(kernel, expected):
    """The longer side is halved and the shorter doubled while that helps and whole kernels tile both."""
    assert folded_shape(kernel) == expected


@pytest.mark.parametrize(("kernel", "sides"), SHAPES)
def test_kernels_are_the_blocks_of_the_matrix(kernel, sides):
    """Kernels follow one another as the blocks do, along the rows; every element is used once."""
    outer, inner, height, width = kernel
    matrix = torch.arange(sides[0] * sides[1]).view(1, *sides)
    kernels = kernels_from(matrix, kernel)[0].flatten(0, 1)
    across = sides[1] // width
    for index in (0, 1 % (outer * inner), outer * inner - 1):
        top, left = index // across * height, index % across * width
        assert torch.equal(kernels[index], matrix[0, top : top + height, left : left + width])
    assert kernels.unique().numel() == matrix.numel()


def test_a_matrix_of_another_size_is_refused():
    """A matrix with too few elements is refused with both numbers."""
    with pytest.raises(ValueError, match="must hold 36 elements each, got 3 x 3"):
        kernels_from(torch.zeros(1, 3, 3), (2, 2, 3, 3))

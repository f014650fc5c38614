"""Numbers decoded without torch, and how far apart two tensors are found to be."""

import math

import numpy as np
import pytest
import torch

from bioconvert.checkpoint.files.number_formats import decoded, item_bytes
from bioconvert.checkpoint.formats.comparing import PART, distance
from bioconvert.checkpoint.formats.stored import InMemory
from bioconvert.checkpoint.tensors.torch_dtypes import TORCH_DTYPES

PATTERNS = np.random.default_rng(0).integers(0, 256, 4096, np.uint8)


def _stored(values, code):
    tensor = torch.as_tensor(values)
    return InMemory(tensor, code, tuple(tensor.shape))


@pytest.mark.parametrize("code", TORCH_DTYPES)
def test_bytes_decode_as_torch_reads_them(code):
    """Whatever the bytes, the numbers are those of torch in every format."""
    raw = PATTERNS & 1 if code == "BOOL" else PATTERNS
    tensor = torch.from_numpy(raw.copy()).view(TORCH_DTYPES[code])
    wide = torch.complex128 if tensor.is_complex() else torch.float64
    expected = (tensor.to(torch.complex64) if code == "C32" else tensor).to(wide).numpy()
    with np.errstate(invalid="ignore"):
        found = decoded(raw.tobytes(), code).astype(expected.dtype)
    assert item_bytes(code) == tensor.element_size()
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("code", ["F4", "F6_E2M3", "no format"])
def test_packed_formats_have_no_item(code):
    """A format with several numbers in a byte, or an unknown one, has no size of an item."""
    assert item_bytes(code) is None


nan, inf = math.nan, math.inf
DISTANCES = [
    pytest.param([1.0, 2.0], [1.0, 2.0], None, id="equal"),
    pytest.param([nan, 0.0], [nan, -0.0], None, id="NaN equals NaN and 0 equals -0"),
    pytest.param([3.0, 4.0], [3.0, 4.5], (1, 0.5, 0.1, 0), id="one differs"),
    pytest.param([0.0, 0.0], [0.0, 2.0], (1, 2.0, None, 0), id="from zero, nothing is relative"),
    pytest.param([3.0, nan], [3.0, 1.0], (1, inf, 0.0, 1), id="NaN on one side"),
    pytest.param([inf, 4.0], [-inf, 5.0], (2, 1.0, 0.25, 1), id="opposite infinities"),
]


@pytest.mark.parametrize(
    "tensor",
    [
        pytest.param(torch.arange(5.0)[::5], id="stride of a dimension of one"),
        pytest.param(torch.tensor([1 + 2j, 3]).conj(), id="conjugate"),
        pytest.param(torch.arange(6.0).view(2, 3).t(), id="transposed"),
    ],
)
def test_a_tensor_that_is_a_view_has_the_bytes_of_its_values(tensor):
    """However a file of torch lays a tensor out, its bytes are those of its values, row by row."""
    plain = torch.tensor(tensor.tolist(), dtype=tensor.dtype)
    code = "C64" if tensor.is_complex() else "F32"
    assert distance(_stored(tensor, code), _stored(plain, code)) is None


def test_a_difference_beyond_a_float_is_infinite():
    """Two finite numbers whose difference overflows are infinitely far apart, and not called infinite."""
    found = distance(*(_stored(torch.tensor([v, 1.0], dtype=torch.float64), "F64") for v in (1e308, -1e308)))
    assert (found.largest, found.relative, found.not_finite) == (inf, None, 0)


@pytest.mark.parametrize(("one", "other", "relative"), [(1e200, -1e200, 2.0), (1e308, 1.1e308, 0.1)])
def test_numbers_whose_squares_are_beyond_a_float_have_a_relative_difference(one, other, relative):
    """Norms are taken of scaled values, so that those of large ones are no NaN."""
    found = distance(*(_stored(torch.tensor([v, 1.0], dtype=torch.float64), "F64") for v in (one, other)))
    assert found.relative == pytest.approx(relative)


@pytest.mark.parametrize(("one", "other", "expected"), DISTANCES)
def test_distance(one, other, expected):
    """Differing values are counted, with the largest and the relative difference of the finite ones."""
    found = distance(_stored(one, "F32"), _stored(other, "F32"))
    if expected is None:
        assert found is None
    else:
        told = (found.differing, found.largest, found.relative, found.not_finite)
        assert told == pytest.approx(expected)


def test_large_integers_are_compared_exactly():
    """A difference of one between 64-bit integers isn't lost to rounding."""
    one, other = _stored([2**62, -(2**63)], "I64"), _stored([2**62 + 1, 2**63 - 1], "I64")
    found = distance(one, other)
    assert (found.differing, found.largest) == (2, float(2**64 - 1))
    assert distance(_stored([2**62], "I64"), _stored([2**62 + 1], "I64")).largest == 1


def test_parts_are_joined():
    """Tensors longer than a part are compared to their end, whatever type they have."""
    one = torch.zeros(2 * PART + 3)
    other = one.clone()
    other[[0, PART, -1]] = torch.tensor([1.0, 2.0, 4.0])
    found = distance(_stored(one, "F32"), _stored(other.to(torch.bfloat16), "BF16"))
    assert (found.values, found.differing, found.largest) == (2 * PART + 3, 3, 4.0)

"""How far the values of one stored tensor are from another's, a part at a time."""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot, inf, isfinite, prod, sqrt

import numpy as np

from bioconvert.checkpoint.files.number_formats import Numbers, decoded, item_bytes
from bioconvert.checkpoint.formats.stored import Stored

PART = 1 << 18
"""Numbers that are compared at once."""


@dataclass(frozen=True, slots=True)
class Distance:
    """How far two tensors of one shape are apart; NaN counts as equal to NaN, and 0 as equal to −0.

    Args:
        values: number of values.
        differing: how many of them differ; ``None`` where the format can't be taken apart.
        largest: the largest absolute difference among those that are finite in both; infinite where none is.
        relative: Euclidean norm of these differences over that of the first tensor; ``None`` if that is 0, or
            either is larger than a float can be.
        not_finite: how many differ and are NaN or infinite in either.
    """

    values: int
    differing: int | None
    largest: float | None
    relative: float | None
    not_finite: int = 0


@np.errstate(invalid="ignore", over="ignore")
def distance(first: Stored, second: Stored) -> Distance | None:
    """Compare two tensors of one shape; ``None`` if every byte, or every value, is the same.

    Raises:
        CorruptFileError: a file ends too early.
    """
    if first.dtype == second.dtype and _same_bytes(first, second):
        return None
    values = prod(first.shape)
    sizes = item_bytes(first.dtype), item_bytes(second.dtype)
    if sizes[0] is None or sizes[1] is None:
        return Distance(values, None, None, None)
    sums = _Sums()
    parts = zip(first.parts(PART * sizes[0]), second.parts(PART * sizes[1]), strict=True)
    for one, other in parts:
        sums.add(decoded(one, first.dtype), decoded(other, second.dtype))
    return sums.distance(values) if sums.differing else None


def _same_bytes(first: Stored, second: Stored) -> bool:
    size = PART * 4
    parts = zip(first.parts(size), second.parts(size), strict=True)
    return all(np.array_equal(np.asarray(one), np.asarray(other)) for one, other in parts)


@dataclass(slots=True)
class _Sums:
    differing: int = 0
    not_finite: int = 0
    largest: float = -inf
    norm: float = 0.0
    difference_norm: float = 0.0

    def add(self, one: Numbers, other: Numbers) -> None:
        """Take account of the next numbers."""
        sizes = np.abs(_wide(one))
        self.norm = hypot(self.norm, _norm(sizes[np.isfinite(sizes)]))
        differ = np.flatnonzero((one != other) & ~((one != one) & (other != other)))
        if not len(differ):
            return
        apart = _apart(one[differ], other[differ])
        # A difference may be more than a float holds though both numbers are finite.
        finite = apart[np.isfinite(one[differ]) & np.isfinite(other[differ])]
        self.differing += len(differ)
        self.not_finite += len(apart) - len(finite)
        self.largest = max(self.largest, float(finite.max(initial=-inf)))
        self.difference_norm = hypot(self.difference_norm, _norm(finite))

    def distance(self, values: int) -> Distance:
        """Give the result."""
        known = self.norm and isfinite(self.norm) and isfinite(self.difference_norm)
        relative = self.difference_norm / self.norm if known else None
        largest = self.largest if self.largest >= 0 else inf
        return Distance(values, self.differing, largest, relative, self.not_finite)


def _norm(sizes: Numbers) -> float:
    """Give the Euclidean norm; the squares of sizes beyond 1e154 are more than a float holds."""
    scale = float(sizes.max(initial=0.0))
    return scale * sqrt(float(np.sum(np.square(sizes / scale)))) if 0 < scale < inf else scale


def _wide(numbers: Numbers) -> Numbers:
    return numbers.astype(np.complex128 if np.iscomplexobj(numbers) else np.float64)


def _apart(one: Numbers, other: Numbers) -> Numbers:
    if one.dtype == other.dtype and one.dtype.kind in "iu":
        # Exact, where a difference of floats would lose the last digits of 64 bits.
        return (np.maximum(one, other).astype(np.uint64) - np.minimum(one, other).astype(np.uint64)).astype(
            np.float64
        )
    return np.asarray(np.abs(_wide(one) - _wide(other)))

"""The number formats that a safetensors file can hold, by their names there; nothing here needs torch."""

from __future__ import annotations

import math

BITS: dict[str, int] = {
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    **dict.fromkeys(("BOOL", "U8", "I8"), 8),
    **dict.fromkeys(("F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("C64", "F64", "I64", "U64"), 64),
}

_PAIRS = {"C32": "F16", "C128": "F64"}
"""Complex formats that safetensors doesn't have; our folders hold them as pairs of reals."""


def stored_form(dtype: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """Give format and shape in which a tensor stands in the file: itself, or pairs of reals."""
    return (_PAIRS[dtype], (*shape, 2)) if dtype in _PAIRS else (dtype, shape)


def byte_count(dtype: str, shape: tuple[int, ...]) -> int | None:
    """Give the size in bytes of a tensor in the file; ``None`` where it is no whole number of bytes."""
    code, stored = stored_form(dtype, shape)
    bits = BITS[code] * math.prod(stored)
    return None if bits % 8 else bits // 8


def is_known(dtype: str) -> bool:
    """Say whether a manifest may name this format."""
    return dtype in BITS or dtype in _PAIRS

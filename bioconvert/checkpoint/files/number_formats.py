"""Bytes of tensors as numbers, without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bioconvert.checkpoint.files.dtypes import BITS, stored_form

Numbers = NDArray[Any]

_NATIVE: Mapping[str, str] = {
    "BOOL": "?",
    "U8": "u1",
    "I8": "i1",
    "U16": "<u2",
    "I16": "<i2",
    "U32": "<u4",
    "I32": "<i4",
    "U64": "<u8",
    "I64": "<i8",
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
    "C64": "<c8",
    "C128": "<c16",
}
_BYTE = 256
_SIGN = 0x80


def item_bytes(dtype: str) -> int | None:
    """Give the size of one number; ``None`` for formats without a number, or with several in a byte."""
    code, pair = stored_form(dtype, ())
    bits = BITS.get(code, 1) * (2 if pair else 1)
    return None if bits % 8 else bits // 8


def decoded(raw: bytes | memoryview, dtype: str) -> Numbers:
    """Give the numbers that some bytes stand for, those that numpy lacks in a wider format.

    Raises:
        KeyError: several numbers share a byte.
    """
    if dtype in _NATIVE:
        return np.frombuffer(raw, _NATIVE[dtype])
    return _WIDENED[dtype](raw)


def _from_bfloat16(raw: bytes | memoryview) -> Numbers:
    wide: Numbers = np.frombuffer(raw, "<u2").astype("<u4") << np.uint32(16)
    return wide.view("<f4")


def _from_complex_halves(raw: bytes | memoryview) -> Numbers:
    return np.frombuffer(raw, "<f2").astype("<f4").view("<c8")


def _from_table(table: Callable[[], Numbers]) -> Callable[[bytes | memoryview], Numbers]:
    return lambda raw: table()[np.frombuffer(raw, np.uint8)]


def _small_floats(exponent_bits: int, bias: int, special: Mapping[int, float]) -> Numbers:
    """Give the numbers of all bytes in a format of sign, exponent and mantissa."""
    codes = np.arange(_BYTE)
    mantissa_bits = 7 - exponent_bits
    exponent = (codes & (_SIGN - 1)) >> mantissa_bits
    mantissa = (codes & ((1 << mantissa_bits) - 1)) / (1 << mantissa_bits)
    size = np.where(exponent == 0, np.ldexp(mantissa, 1 - bias), np.ldexp(1.0 + mantissa, exponent - bias))
    numbers = np.where(codes & _SIGN, -size, size).astype("<f4")
    for code, value in special.items():
        numbers[code] = value
    return numbers


@lru_cache(maxsize=1)
def _e4m3() -> Numbers:
    return _small_floats(4, 7, {0x7F: np.nan, 0xFF: np.nan})


@lru_cache(maxsize=1)
def _e5m2() -> Numbers:
    nans = dict.fromkeys((*range(0x7D, 0x80), *range(0xFD, 0x100)), np.nan)
    return _small_floats(5, 15, {0x7C: np.inf, 0xFC: -np.inf, **nans})


@lru_cache(maxsize=1)
def _e4m3fnuz() -> Numbers:
    return _small_floats(4, 8, {_SIGN: np.nan})


@lru_cache(maxsize=1)
def _e5m2fnuz() -> Numbers:
    return _small_floats(5, 16, {_SIGN: np.nan})


@lru_cache(maxsize=1)
def _e8m0() -> Numbers:
    return np.append(np.ldexp(1.0, np.arange(_BYTE - 1) - 127), np.nan).astype("<f4")


_WIDENED: Mapping[str, Callable[[bytes | memoryview], Numbers]] = {
    "BF16": _from_bfloat16,
    "C32": _from_complex_halves,
    "F8_E4M3": _from_table(_e4m3),
    "F8_E5M2": _from_table(_e5m2),
    "F8_E4M3FNUZ": _from_table(_e4m3fnuz),
    "F8_E5M2FNUZ": _from_table(_e5m2fnuz),
    "F8_E8M0": _from_table(_e8m0),
}

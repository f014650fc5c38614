"""Counting the values of a tensor that are NaN or infinite, from its bytes as they pass."""

from __future__ import annotations

import numpy as np

_EXPONENTS: dict[str, tuple[str, int]] = {
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
    "F32": ("<u4", 0x7F800000),
    "F64": ("<u8", 0x7FF0000000000000),
}
"""Of each number format: the integers of its width, and the bits that are all set in NaN and infinity."""
_PARTS = {"C32": "F16", "C64": "F32", "C128": "F64"}
"""Complex formats are pairs of reals, which count one by one."""


class NonFinite:
    """Counts, like a hash being computed, what isn't finite.

    Args:
        dtype: number format, by its name in manifests; of one without NaN nothing is counted.

    Example:
        >>> counter = NonFinite("F32")
        >>> counter.update(memoryview(np.array([1.0, np.nan, -np.inf], dtype="float32").tobytes()))
        >>> counter.count
        2
    """

    def __init__(self, dtype: str):
        self._format = _EXPONENTS.get(_PARTS.get(dtype, dtype))
        self._rest = b""
        self.count = 0

    def update(self, data: memoryview, /) -> None:
        """Take more of the bytes."""
        if self._format is None:
            return
        kind, bits = self._format
        width = np.dtype(kind).itemsize
        if self._rest or len(data) % width:
            # A value may lie across two blocks.
            data = memoryview(self._rest + bytes(data))
            whole = len(data) - len(data) % width
            self._rest, data = bytes(data[whole:]), data[:whole]
        words = np.frombuffer(data, kind)
        mask = words.dtype.type(bits)
        self.count += int(np.count_nonzero((words & mask) == mask))

"""What is put on record of a tensor while its bytes pass: their hash, and how many values aren't finite."""

from __future__ import annotations

import hashlib

import numpy as np

from bioconvert.checkpoint.folders.manifest import TensorRecord

_FORMATS: dict[str, tuple[str, int, int]] = {
    "F8_E5M2": ("<u1", 0x7C, 0x7C),
    "F8_E4M3": ("<u1", 0x7F, 0x7F),
    "F8_E8M0": ("<u1", 0xFF, 0xFF),
    "F8_E4M3FNUZ": ("<u1", 0xFF, 0x80),
    "F8_E5M2FNUZ": ("<u1", 0xFF, 0x80),
    "F16": ("<u2", 0x7C00, 0x7C00),
    "BF16": ("<u2", 0x7F80, 0x7F80),
    "F32": ("<u4", 0x7F800000, 0x7F800000),
    "F64": ("<u8", 0x7FF0000000000000, 0x7FF0000000000000),
}
"""Of each number format: the integers of its width, and which of their bits are what in NaN and infinity."""
_PARTS = {"C32": "F16", "C64": "F32", "C128": "F64"}
"""Complex formats are pairs of reals, which count one by one."""


class TensorDigest:
    """Takes the bytes of one tensor, block by block, in their order.

    Args:
        dtype: its number format, by its name in manifests; of one without NaN nothing is counted.
        shape: its shape.

    Example:
        >>> digest = TensorDigest("F32", (3,))
        >>> digest.update(memoryview(np.array([1.0, np.nan, -np.inf], dtype="float32").tobytes()))
        >>> digest.record("model.safetensors").non_finite
        2
    """

    def __init__(self, dtype: str, shape: tuple[int, ...]):
        self._dtype, self._shape = dtype, shape
        self._format = _FORMATS.get(_PARTS.get(dtype, dtype))
        self._hash = hashlib.sha256()
        self._rest = b""
        self._non_finite = 0

    def update(self, data: memoryview, /) -> None:
        """Take more of the bytes."""
        self._hash.update(data)
        if self._format is not None:
            self._count(data, *self._format)

    def record(self, file: str) -> TensorRecord:
        """Give what a manifest says of the tensor.

        Args:
            file: name of the file that its bytes went to.
        """
        return TensorRecord(
            file=file,
            dtype=self._dtype,
            shape=self._shape,
            sha256=self._hash.hexdigest(),
            non_finite=self._non_finite,
        )

    def _count(self, data: memoryview, kind: str, bits: int, value: int) -> None:
        width = np.dtype(kind).itemsize
        if self._rest or len(data) % width:
            # A value may lie across two blocks.
            data = memoryview(self._rest + bytes(data))
            whole = len(data) - len(data) % width
            self._rest, data = bytes(data[whole:]), data[:whole]
        words = np.frombuffer(data, kind)
        found = (words & words.dtype.type(bits)) == words.dtype.type(value)
        self._non_finite += int(np.count_nonzero(found))

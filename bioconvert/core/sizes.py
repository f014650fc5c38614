"""Numbers of bytes, as people write and read them."""

from __future__ import annotations

import re

from bioconvert.core.errors import OptionError

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024
_FACTORS = {
    "": 1,
    **{unit.lower(): _STEP**power for power, unit in enumerate(_UNITS)},
    **{unit.lower().replace("i", ""): 1000**power for power, unit in enumerate(_UNITS)},
}
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([a-z]*)")


def size(count: float) -> str:
    """Say a number of bytes in binary units: ``44.7 MiB``."""
    value = float(count)
    for unit in _UNITS:
        if value < _STEP or unit == _UNITS[-1]:
            break
        value /= _STEP
    return f"{count:,.0f} B" if unit == "B" else f"{value:.1f} {unit}"


def parse_size(text: str) -> int:
    """Read a number of bytes: ``2GiB`` is 2 · 1024³, ``2GB`` is 2 · 1000³, ``2000`` is 2000.

    Raises:
        OptionError: it is no number of bytes above zero.
    """
    found = _SIZE.fullmatch(text.strip().lower())
    count = int(float(found[1]) * _FACTORS[found[2]]) if found and found[2] in _FACTORS else 0
    if count <= 0:
        raise OptionError(f"a size must be a number of bytes above zero, as 2GiB or 500MB; given: {text!r}")
    return count

"""The two generations of nmn, which compute different things from tensors of the same names."""

from __future__ import annotations

from typing import Literal, get_args

from bioconvert.core.errors import OptionError

Generation = Literal["0.1", "0.3"]
"""``"0.1"``: releases 0.1.0 to 0.2.6, bias behind the quotient, alpha an exponent. ``"0.3"``: 0.2.7 and
later, bias inside the square, alpha a factor."""
GENERATIONS: tuple[Generation, ...] = get_args(Generation)
MEANINGS = "0.1 for nmn 0.1.0 to 0.2.6, 0.3 for nmn 0.2.7 and later"


def check_generation(generation: str | None) -> Generation | None:
    """Give a generation that the caller named, if it is one.

    Raises:
        OptionError: it is not.
    """
    for known in GENERATIONS:
        if generation == known:
            return known
    if generation is None:
        return None
    raise OptionError(f"the generation must be {MEANINGS}, not {generation!r}")

"""Error texts for unknown names: what is known, and what may have been meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_SHOWN = 12


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Give the known name that ``name`` most likely stands for, or ``None``."""
    names = {candidate.casefold(): candidate for candidate in known}
    found = difflib.get_close_matches(name.casefold(), names, n=1, cutoff=0.6)
    return names[found[0]] if found else None


def hint(name: str, known: Iterable[str]) -> str:
    """Say "Did you mean 'X'? Known: …" about an unknown name."""
    names = sorted(set(known))
    guess = nearest(name, names)
    meant = f"Did you mean {guess!r}? " if guess is not None else ""
    shown = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
    return f"{meant}Known: {shown or 'none'}."

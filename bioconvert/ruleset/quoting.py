"""How the error texts show what the user wrote: on one line, and not too much of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bioconvert.ruleset.scalars import scalar_text

_LONGEST = 60


def shown(value: object) -> str:
    """Show a value of a rule file: text in quotes, the rest as YAML has it, shortened."""
    if isinstance(value, str):
        return shortened(value, _LONGEST, quoted=True)
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    return shortened("nothing" if value is None else scalar_text(value))  # type: ignore[arg-type]


def shortened(text: str, longest: int = _LONGEST, *, quoted: bool = False) -> str:
    """Cut a text to a length; in quotes, with everything unprintable escaped."""
    cut = text if len(text) <= longest else text[: longest - 1] + "…"
    return repr(cut) if quoted else cut


def listed(words: Iterable[str], conjunction: str = "or") -> str:
    """Join words: "a", "a or b", "a, b or c"."""
    *rest, last = words
    return f"{', '.join(rest)} {conjunction} {last}" if rest else last


def printable(text: str) -> str:
    """Replace what a terminal would act on by spaces, one for one: a caret may have to stand below."""
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)

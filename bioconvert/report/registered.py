"""What a name of rule files stands for, as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from bioconvert.report.tables import facts
from bioconvert.report.text import one_line, printable

Row = tuple[str, str, str, str]
"""Name, type, default and meaning of an option."""


def registered_parts(
    title: str, summary: str, told: Mapping[str, str], options: Iterable[Row]
) -> Iterator[RenderableType]:
    """Show what a name stands for.

    Args:
        title: the name and what kind of thing it is.
        summary: what it does.
        told: what else is known of it; empty texts are left out.
        options: a row for each option.
    """
    yield Text(one_line(title), style="bold")
    yield Text(printable(summary))
    known = {name: text for name, text in told.items() if text}
    if known:
        yield facts(known)
    for name, allowed, default, meaning in options:
        yield Text()
        line = Text(one_line(name), style="cyan")
        line.append(f"  {one_line(allowed)}", style="not bold default")
        yield line.append(f"  [{one_line(default)}]", style="dim default")
        if meaning:
            yield Padding(Text(one_line(meaning)), (0, 0, 0, 4))

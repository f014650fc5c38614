"""Rendering as a user's terminal would: 80 columns, no colours, no spaces at the ends of lines."""

import io

import pytest
from rich.console import Console


@pytest.fixture
def rendered():
    """Give a function that renders parts as an 80-column terminal shows them."""

    def render(*parts, width=80):
        console = Console(file=io.StringIO(), width=width, markup=False, highlight=False, emoji=False)
        for part in parts:
            console.print(part)
        return "".join(f"{line.rstrip()}\n" for line in console.file.getvalue().splitlines())

    return render
